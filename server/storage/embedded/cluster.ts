import { randomUUID } from 'node:crypto';
import { chown, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Context, superuser } from './context.ts';
import { syncDirectory, writePrivate } from './directories.ts';
import { failed, ifPresent } from './error.ts';
import { run } from './run-user.ts';

/** The version that made the data directory; undefined where there is no data yet. */
export async function clusterMajor(cluster: string): Promise<number | undefined> {
  const version = await ifPresent(readFile(join(cluster, 'PG_VERSION'), 'utf8'));
  return version === undefined ? undefined : Number.parseInt(version, 10);
}

/**
 * Makes the data directory under another name and moves it when it is complete: a crash in between leaves
 * only what the next starts remove. The name is a new one each time: a killed server's initdb goes on for a
 * while. Needs the start lock.
 */
export async function createCluster(context: Context, password: string): Promise<void> {
  const { cluster, user } = context;
  const unfinished = `${cluster}.init-${randomUUID()}`;
  const passwordFile = `${unfinished}.password`;
  await mkdir(unfinished, { mode: 0o700 });
  if (user) await chown(unfinished, user.uid, user.gid);
  try {
    await writePrivate(passwordFile, password, user);
    const outcome = await run(
      user,
      context.binaries.initdb,
      initdbArguments(context, unfinished, passwordFile),
    );
    if (!outcome.ok) throw failed(`initdb failed in ${unfinished}: ${outcome.stderr}`);
    await rename(unfinished, cluster);
  } finally {
    await rm(passwordFile, { force: true });
    await rm(unfinished, { recursive: true, force: true });
  }
  await syncDirectory(dirname(cluster));
}

/** At every start: what an initdb was still writing to could not be removed at the last one. */
export async function removeUnfinished(cluster: string): Promise<void> {
  const directory = dirname(cluster);
  const names = (await readdir(directory)).filter((name) => name.startsWith(`${basename(cluster)}.init-`));
  await Promise.allSettled(names.map((name) => rm(join(directory, name), { recursive: true, force: true })));
}

function initdbArguments({ binaries, settings }: Context, directory: string, passwordFile: string): string[] {
  const locale =
    binaries.major >= 17
      ? ['--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8']
      : // macOS has no C.UTF-8.
        [process.platform === 'darwin' ? '--locale=C' : '--locale=C.UTF-8'];
  return [
    `--pgdata=${directory}`,
    '--encoding=UTF8',
    ...locale,
    '--auth=scram-sha-256',
    `--username=${superuser}`,
    `--pwfile=${passwordFile}`,
    ...(settings.fsync === 'off' ? ['--no-sync'] : []),
  ];
}
