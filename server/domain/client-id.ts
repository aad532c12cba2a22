/** What the id of a client is made of: whatever else a request names as one is none, and is not asked for. */
export const clientIdPattern = /^[A-Za-z0-9._-]{1,64}$/;
