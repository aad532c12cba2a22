import { createHash } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { brotliCompress, gzip } from 'node:zlib';

/** Builds the dashboard into `dist/`, where that is not of the present sources; takes a few seconds, or none. */

const root = fileURLToPath(new URL('.', import.meta.url));
const dist = join(root, 'dist');
const sources = ['src', 'public', 'index.html', 'vite.config.ts', 'package.json', '../package-lock.json'];
const stamp = 'sources.sha256';
const compressible = /\.(js|css|svg)$/;

async function listFiles(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

async function digestSources(): Promise<string> {
  const hash = createHash('sha256');
  for (const source of sources) {
    const path = join(root, source);
    const files = /\.\w+$/.test(source) ? [path] : (await listFiles(path)).sort();
    for (const file of files) hash.update(file.slice(root.length)).update(await readFile(file));
  }
  return hash.digest('hex');
}

/** Once, with the best compression, so that no request pays for it. */
async function compress(directory: string): Promise<void> {
  const files = (await listFiles(directory)).filter((file) => compressible.test(file));
  await Promise.all(
    files.map(async (file) => {
      const content = await readFile(file);
      await writeFile(`${file}.br`, await promisify(brotliCompress)(content));
      await writeFile(`${file}.gz`, await promisify(gzip)(content, { level: 9 }));
    }),
  );
}

async function build(): Promise<void> {
  const digest = await digestSources();
  const built = await readStamp();
  if (built === digest) return;

  // Whoever asks for it, the tests too: else the libraries' development code would be built in.
  process.env.NODE_ENV = 'production';
  const vite = await import('vite').catch(() => undefined);
  if (!vite) {
    // An image without development dependencies runs what was built into it.
    if (built !== undefined) return;
    throw new Error(
      'the dashboard is not built: run "npm run build" where the development dependencies are installed',
    );
  }
  process.stdout.write('Building the dashboard …\n');
  const fresh = await mkdtemp(join(root, '.dist-'));
  try {
    const configFile = join(root, 'vite.config.ts');
    await vite.build({ configFile, logLevel: 'warn', build: { outDir: fresh, emptyOutDir: true } });
    await compress(fresh);
    await writeFile(join(fresh, stamp), digest);
    // Made for its owner only; the server may run as another user than the one who builds.
    await chmod(fresh, 0o755);
    await replace(fresh, digest);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

/** In one step, so that nobody reads half a dashboard; of two that build the same at once, the first one counts. */
async function replace(fresh: string, digest: string): Promise<void> {
  const former = `${fresh}-former`;
  try {
    await rename(dist, former).catch(ignoreMissing);
    await rename(fresh, dist);
  } catch (error) {
    if ((await readStamp()) !== digest) throw error;
  } finally {
    await rm(former, { recursive: true, force: true });
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}

async function readStamp(): Promise<string | undefined> {
  const text = await readFile(join(dist, stamp), 'utf8').catch(ignoreMissing);
  return text || undefined;
}

await build();
