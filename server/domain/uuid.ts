const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Whether PostgreSQL would take this for an id: it refuses the whole statement otherwise. */
export const isUuid = (value: unknown): value is string => typeof value === 'string' && uuid.test(value);
