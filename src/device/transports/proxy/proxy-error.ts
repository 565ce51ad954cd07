/**
 * Errors of proxies. Each names the proxy and where its setting comes from, and none contains credentials.
 *
 * @module
 */
import { STATUS_CODES } from "node:http";
import { visible } from "../../../lib/printable.ts";
import { DeviceError } from "../../device-error.ts";
import { proxyText } from "../candidates.ts";
import type { ProxyServer } from "../transport.ts";

/** A proxy, and where its setting was found. */
export interface NamedProxy {
  readonly proxy: ProxyServer;
  readonly source: string;
}

const ANOTHER = { advice: "another transport" } as const;

/** How to give credentials, as the end of a sentence. */
const GIVE =
  "write them into its URL (--proxy http://user:password@host:port, better in a file: --proxy @FILE), or list them with --proxy-credentials FILE";

/** The proxy cannot be reached. */
export function proxyUnreachable(named: NamedProxy, cause: DeviceError): DeviceError {
  return new DeviceError(cause.code, `${nameOf(named)} cannot be used: ${cause.message}`, { ...ANOTHER, cause });
}

/** The proxy does not connect to this destination. */
export function proxyRefuses(named: NamedProxy, to: string, why: string): DeviceError {
  const cure = "ask its administrator to allow that host and port, or use another transport";
  return new DeviceError("ProxyRefuses", `${nameOf(named)} refuses to connect to ${to}: ${why}; ${cure}`, ANOTHER);
}

/** @param offers the schemes that the proxy offers */
export function proxyNeedsCredentials(named: NamedProxy, offers: readonly string[]): DeviceError {
  const schemes = offers.length === 0 ? "" : ` (${offers.map((scheme) => visible(scheme)).join(", ")})`;
  const text = `${nameOf(named)} requires a user name and password${schemes}: ${GIVE}`;
  return new DeviceError("ProxyNeedsCredentials", text, ANOTHER);
}

/** The proxy refuses the Kerberos ticket, and no password is given. */
export function proxyRefusesTicket(named: NamedProxy): DeviceError {
  const text = `${nameOf(named)} refuses the Kerberos ticket of this user: get a new one (kinit), or ${GIVE}`;
  return new DeviceError("ProxyNeedsCredentials", text, ANOTHER);
}

/** The proxy offers nothing that these credentials can be used for. */
export function proxyOffersNothing(named: NamedProxy, why: string): DeviceError {
  return new DeviceError("ProxyNeedsCredentials", `${nameOf(named)} requires authentication: ${why}`, ANOTHER);
}

/** @param cure how to make the memory of refused passwords forget */
export function proxyRefusesCredentials(named: NamedProxy, cure: string): DeviceError {
  const text = `${nameOf(named)} refuses the user name or password: correct them. They are not sent again, so that the account is not locked; ${cure}`;
  return new DeviceError("ProxyRefusesCredentials", text, ANOTHER);
}

/** The answer is no answer of a proxy. */
export function notAProxy(named: NamedProxy, detail: string): DeviceError {
  const text = `${nameOf(named)} does not answer as a proxy of that kind: ${detail} Check its host, port and scheme (http, https, socks5, socks4)`;
  return new DeviceError("ProxyFailed", text, ANOTHER);
}

export function proxySilent(named: NamedProxy, to: string, waited: string): DeviceError {
  const text = `${nameOf(named)} did not connect to ${to} within ${waited}; check that ${to} is reachable from the proxy`;
  return new DeviceError("ProxyFailed", text, ANOTHER);
}

function nameOf({ proxy, source }: NamedProxy): string {
  return `the proxy ${visible(proxyText(proxy))} (from ${source})`;
}

/** A status for a message, in words of our own: a proxy that repeats what it hears would repeat the password. */
export function statusText(status: number): string {
  return `it answered ${status} ${STATUS_CODES[status] ?? ""}`.trim();
}
