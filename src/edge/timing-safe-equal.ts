/**
 * Constant-time comparison of secrets.
 *
 * @module
 */

/** Compares in a time that does not reveal where the texts differ. */
export async function isEqual(one: string, other: string): Promise<boolean> {
  const [first, second] = await Promise.all(
    [one, other].map((text) => crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))),
  );
  return first !== undefined && second !== undefined && crypto.subtle.timingSafeEqual(first, second);
}
