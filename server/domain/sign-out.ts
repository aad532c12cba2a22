/**
 * Sessions and access tokens know in whole seconds when somebody signed in (`auth_time`). A sign-out everywhere (a new password, a
 * deactivation) ends what began up to its second: nothing from before it is left, and a sign-in after it begins in the next one.
 */

const seconds = (at: Date) => Math.floor(at.getTime() / 1000);

/** @param authTime in seconds since 1970 */
export function endedBySignOut(authTime: number, signedOutAt: Date | null): boolean {
  return signedOutAt !== null && authTime <= seconds(signedOutAt);
}

/** @returns the `auth_time` of a sign-in, in seconds since 1970 */
export function authTimeOf(at: Date, signedOutAt: Date | null): number {
  return Math.max(seconds(at), signedOutAt ? seconds(signedOutAt) + 1 : 0);
}
