/** What the orchestrator asks a candidate for, over IPC. */
export interface Sample {
  /** User and system time of the whole process (all threads) since its start, in ms. */
  readonly cpuMs: number;
  /** The resident set, and the largest seen so far, in bytes. */
  readonly rss: number;
  readonly rssMax: number;
}

export type CandidateMessage =
  | { readonly type: 'ready'; readonly port: number }
  | ({ readonly type: 'sample' } & Sample);

export interface Candidate {
  readonly port: number;
  close(): Promise<void>;
}

const rssIntervalMs = 100;

/** Runs a candidate as a child process: says when it is ready, answers with samples, ends with its parent. */
export async function runCandidate(start: () => Promise<Candidate>): Promise<void> {
  const send = (message: CandidateMessage) => void process.send?.(message);
  const candidate = await start();
  let rssMax = 0;
  const measure = () => {
    rssMax = Math.max(rssMax, process.memoryUsage.rss());
  };
  setInterval(measure, rssIntervalMs);
  process.on('message', () => {
    measure();
    const { user, system } = process.cpuUsage();
    send({ type: 'sample', cpuMs: (user + system) / 1000, rss: process.memoryUsage.rss(), rssMax });
  });
  process.once('disconnect', () => {
    candidate.close().then(
      () => process.exit(0),
      () => process.exit(1),
    );
  });
  send({ type: 'ready', port: candidate.port });
}
