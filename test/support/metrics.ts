/** Samples by name and labels, as they are written. */
export type Samples = ReadonlyMap<string, number>;

/** What `/metrics` answers, without its comments. */
export async function readMetrics(url: string, token?: string): Promise<Samples> {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(`${url}/metrics`, { headers });
  if (response.status !== 200) throw new Error(`/metrics answered ${response.status}`);
  return parseMetrics(await response.text());
}

export function parseMetrics(text: string): Samples {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(' ');
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }),
  );
}

/** Of one sample; 0 where it is not there. */
export const countOf = (samples: Samples, name: string): number => samples.get(name) ?? 0;

/** Of all label values of a name. */
export const samplesOf = (samples: Samples, name: string): [string, number][] =>
  [...samples].filter(([key]) => key === name || key.startsWith(`${name}{`));
