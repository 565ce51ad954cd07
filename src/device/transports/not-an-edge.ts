/**
 * Recognizes answers that do not come from an edge: a captive portal, the page of a proxy or firewall, another server,
 * or no HTTP at all. An edge sends the header `Grooveway-Reason` with every refusal.
 *
 * @module
 */
import { prefixOf } from "../../encapsulation/index.ts";
import { printable, visible, withoutCredentials } from "../../lib/printable.ts";
import { DeviceError } from "../device-error.ts";

/** A response that did not come from an edge. */
export interface ForeignAnswer {
  readonly status: number;
  /** The reason phrase after the status. */
  readonly phrase: string;
  /** Returns the value of a header, given its lower-case name. */
  readonly header: (name: string) => string | undefined;
  /** The beginning of the body, as far as received. */
  readonly body?: Uint8Array | undefined;
}

/** Statuses of a busy server, or of one whose upstream is down: there may be an edge later. */
const PASSING: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504]);

/**
 * Describes what answered at the edge's URL.
 *
 * @param retryAfter seconds, if the answer gave them
 * @returns NotAnEdge; ConnectFailed if a proxy says that the edge is down or that a password is needed
 */
export function foreignAnswer(edge: URL, answer: ForeignAnswer, retryAfter?: number): DeviceError {
  const { status } = answer;
  const said = `${shown(edge)} answered ${status} ${visible(withoutCredentials(answer.phrase))}`.trim();
  const location = answer.header("location");
  if (status >= 300 && status < 400 && location !== undefined) return redirected(edge, said, location);
  const content = contentOf(answer);
  if (status === 407) {
    return new DeviceError("ConnectFailed", `${said}: a proxy in between requires a password`);
  }
  if (PASSING.has(status)) {
    const text = `${said}${content}, which is not the edge's: a proxy in front of it failed, or the edge is down; try again later`;
    return new DeviceError("ConnectFailed", text, { retryAfter });
  }
  if (status === 400 && /HTTPS (port|server)|SSL-enabled/i.test(textOf(answer.body))) return notPlain(edge);
  const cure =
    status === 511 || status < 300
      ? "if this network has a login page, open it in a browser; otherwise check the URL"
      : "check the URL and its path; a proxy or firewall in between may have answered";
  return notAnEdge(`${said}${content}, which no edge does; ${cure}`);
}

/** The bytes received are not HTTP. */
export function notHttp(edge: URL, octets: Uint8Array): DeviceError {
  if (isTls(octets)) return notPlain(edge);
  const [line = ""] = textOf(octets).split(/\r?\n/);
  const said = printable(withoutCredentials(line).slice(0, 60));
  return line.startsWith("HTTP/")
    ? notAnEdge(`${shown(edge)} answered ${said} and invalid HTTP headers; look for a proxy in between`)
    : notAnEdge(`${shown(edge)} does not speak HTTP: it said ${said}; check host and port`);
}

/** The connection closed before any bytes came. */
export function noAnswer(edge: URL, cause?: unknown): DeviceError {
  const cure = isPlain(edge)
    ? `check host and port; if it speaks TLS, write ${shown(secured(edge))}`
    : "check host and port, and look for a proxy or firewall in between";
  const text = `${shown(edge)} closed the connection without an answer; ${cure}`;
  return new DeviceError("ConnectFailed", text, { cause });
}

/** Whether the bytes start with a TLS alert or handshake record. */
function isTls([type, version]: Uint8Array): boolean {
  return (type === 0x15 || type === 0x16) && version === 0x03;
}

function notPlain(edge: URL): DeviceError {
  const text = `${shown(edge)} is plain HTTP, but the server speaks TLS on this port; write ${shown(secured(edge))}`;
  return new DeviceError("TlsFailed", text);
}

function isPlain({ protocol }: URL): boolean {
  return protocol === "http:";
}

function secured(edge: URL): URL {
  const secure = new URL(edge.href);
  secure.protocol = "https:";
  return secure;
}

function redirected(edge: URL, said: string, location: string): DeviceError {
  const to = URL.canParse(location, edge.href) ? new URL(location, edge.href) : undefined;
  const where = `${said}, a redirect to ${printable(withoutCredentials(to?.href ?? location))}`;
  if (to !== undefined && to.hostname === edge.hostname && to.protocol === "https:" && isPlain(edge)) {
    const secure = secured(edge);
    secure.port = to.port;
    return notAnEdge(`${where}; write ${shown(secure)}`);
  }
  return notAnEdge(
    `${where}, which no edge does; if that is the login page of this network, open it in a browser; otherwise check the URL`,
  );
}

/** The kind of body, with the title of an HTML page. */
function contentOf({ header, body }: ForeignAnswer): string {
  const [type = ""] = (header("content-type") ?? "").split(";");
  if (/html/i.test(type)) {
    const [, title = ""] = /<title[^>]*>([^<]*)/i.exec(textOf(body)) ?? [];
    return title.trim() === ""
      ? " with a page"
      : ` with the page ${printable(withoutCredentials(title).trim().slice(0, 80))}`;
  }
  if (type.trim() === "" || header("content-length") === "0") return " with an empty body";
  return ` with ${printable(withoutCredentials(type).trim())}`;
}

/** The URL as the user wrote it, without a password. */
function shown(edge: URL): string {
  return `${edge.origin}${prefixOf(edge)}`;
}

function textOf(octets: Uint8Array | undefined): string {
  return octets === undefined ? "" : new TextDecoder().decode(octets.subarray(0, 4096));
}

function notAnEdge(message: string): DeviceError {
  return new DeviceError("NotAnEdge", message);
}
