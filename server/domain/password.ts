import bcrypt from 'bcrypt';
import { policy } from '../../config/policy.ts';

/** OWASP ASVS 5 §6.2: a minimum length, no composition rules; bcrypt's 72 bytes are a limit, never a cut. */
export function passwordFault(password: string): string | undefined {
  if ([...password].length < policy.minimumPasswordLength) {
    return `must have at least ${policy.minimumPasswordLength} characters`;
  }
  if (Buffer.byteLength(password) > policy.maximumPasswordBytes) {
    return `must have at most ${policy.maximumPasswordBytes} bytes`;
  }
  if (password.includes('\0')) return 'must not contain NUL';
  return undefined;
}

export function hashPassword(password: string): Promise<string> {
  const fault = passwordFault(password);
  if (fault) throw new RangeError(`password ${fault}`);
  return bcrypt.hash(password, policy.bcryptCost);
}

// Compared where there is no hash, so that an unknown user costs what a wrong password costs. Made when first needed.
let nobodysHash: Promise<string> | undefined;

/** Whether the password is right. Takes the same time for a user without one. */
export async function verifyPassword(password: string, hash: string | null | undefined): Promise<boolean> {
  nobodysHash ??= bcrypt.hash('no such user', policy.bcryptCost);
  const matches = await bcrypt.compare(password, hash ?? (await nobodysHash));
  return matches && Boolean(hash) && passwordFault(password) === undefined;
}
