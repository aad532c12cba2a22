/** @throws where an option's value is none, in words for whoever typed it */
export function positiveNumber(name: string, value: string): number {
  if (!/^[1-9]\d{0,7}$/.test(value)) throw new Error(`--${name} must be a positive whole number`);
  return Number(value);
}
