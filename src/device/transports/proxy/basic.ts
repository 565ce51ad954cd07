/**
 * HTTP Basic authentication [RFC 7617]: the password in a reversible encoding.
 *
 * @module
 */
import type { Credentials } from "./credentials.ts";

/** The value of Proxy-Authorization; undefined if the user name has a colon, which Basic cannot carry. */
export function basicAuthorization({ user, password }: Credentials): string | undefined {
  if (user.includes(":")) return undefined;
  return `Basic ${Buffer.from(`${user}:${password}`, "utf8").toString("base64")}`;
}
