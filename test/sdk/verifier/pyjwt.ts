import { execFileSync } from 'node:child_process';

/**
 * A Python that has PyJWT and cryptography (Debian's python3-jwt, python3-cryptography).
 * @returns undefined where there is none; @throws where REQUIRE_PYTHON says that there must be one
 */
export function findPyJwt(): string | undefined {
  for (const python of ['/usr/bin/python3', 'python3']) {
    try {
      execFileSync(python, ['-c', 'import jwt, cryptography; assert jwt.PyJWKSet'], { stdio: 'ignore' });
      return python;
    } catch {
      // The next one.
    }
  }
  const message =
    'No Python with PyJWT: the test vectors are NOT verified in another language (apt-get install python3-jwt)';
  if (process.env.REQUIRE_PYTHON) throw new Error(message);
  process.stderr.write(`\n${message}\n\n`);
  return undefined;
}

/** @returns the names of the vectors that PyJWT accepts */
export const verifyWithPyJwt = (python: string): string[] =>
  JSON.parse(
    execFileSync(python, ['test/sdk/verifier/verify.py', 'sdk/vectors', 'README.md'], { encoding: 'utf8' }),
  ) as string[];
