import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';

/** `npm run test:fuzz -- --requests N --seed N` */
const { values } = parseArgs({
  options: { requests: { type: 'string', default: '1000000' }, seed: { type: 'string' } },
});
const child = spawn('vitest', ['run', 'test/fuzz/fuzz.test.ts'], {
  stdio: 'inherit',
  env: { ...process.env, FUZZ_REQUESTS: values.requests, ...(values.seed ? { FUZZ_SEED: values.seed } : {}) },
});
child.on('exit', (code) => process.exit(code ?? 1));
