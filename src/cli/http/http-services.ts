/**
 * HTTP services of this machine that other devices may call: `grooveway expose --http`.
 *
 * @module
 */
import type { Device, ResponseParts, ServiceRequest } from "../../device/index.ts";
import { maySend, readSenderRule, type SenderRule } from "../../edge/policy/sender-rule.ts";
import { printable, visible } from "../../lib/printable.ts";
import { isCallable, parseServer, type ServerAddress } from "../../requests/index.ts";
import { deviceURL, parseAddress, relayURL } from "../../sstp/index.ts";
import { usage } from "../parse-arguments.ts";
import type { StreamLog } from "../streams/stream-log.ts";
import { type Asked, askServer } from "./ask-server.ts";
import { LONGEST_ANSWER } from "./limits.ts";

export const HTTP_OPTIONS = {
  http: { type: "string", multiple: true },
  allow: { type: "string", multiple: true },
} as const;

export const HTTP_HELP = `  --http NAME=URL       let other devices call this HTTP server, below its path, with grooveway call; repeatable
  --allow PATTERN       who may: alice (all her devices), bob/phone, '*-bot', or * for all who may send to this address;
                        repeatable. Nobody without it`;

export interface HttpServices {
  readonly servers: ReadonlyMap<string, ServerAddress>;
  readonly callers: SenderRule;
}

/** Parses `NAME=URL` each, and who may call. @throws CommandError Usage */
export function httpServicesIn({
  http = [],
  allow = [],
}: {
  readonly http?: readonly string[] | undefined;
  readonly allow?: readonly string[] | undefined;
}): HttpServices {
  const servers = new Map<string, ServerAddress>();
  for (const text of http) {
    const at = text.indexOf("=");
    const [name, url] = [text.slice(0, Math.max(0, at)), text.slice(at + 1)];
    if (!isCallable(name)) throw usage("expose", `--http ${printable(text)} has no name: write NAME=URL`);
    if (servers.has(name)) throw usage("expose", `the name ${name} is given twice: choose another`);
    const server = parseServer(url);
    if (!server.ok) throw usage("expose", `--http ${printable(text)}: ${server.problems}`);
    servers.set(name, server.value);
  }
  if (servers.size === 0 && allow.length > 0) throw usage("expose", "--allow needs --http NAME=URL");
  if (servers.size > 0 && allow.length === 0) {
    throw usage(
      "expose",
      "--http needs --allow PATTERN, or nobody may call: write --allow '*' for all who may send here",
    );
  }
  // A star alone is a pattern of identities; those who may send include some at other relays.
  const rule = readSenderRule(allow.length === 0 ? "nobody" : allow.includes("*") ? "everyone" : allow.join(" "));
  if (!rule.ok) throw usage("expose", `--allow: ${rule.problems}`);
  return { servers, callers: rule.value };
}

/** Serves requests from now on. */
export function offerHttp(device: Device, { servers, callers }: HttpServices, log: StreamLog): void {
  for (const [name, server] of servers) {
    device.respond(name, (request) => serve(request, server, callers, log));
    const service = `${device.address}:${name}`;
    log.announce("exposed", `${service} may be called, and is ${server.origin}${server.prefix}`, { service });
  }
}

async function serve(
  request: ServiceRequest,
  server: ServerAddress,
  callers: SenderRule,
  log: StreamLog,
): Promise<ResponseParts> {
  const { id, from, service, deadline, signal } = request;
  if (!maySend(callers, sourceOf(from))) {
    log.tell(`${service}: refused ${visible(from)}, whom --allow does not admit`, "refused");
    return failed(403, "this caller is not admitted: ask the owner for --allow [CallerNotAllowed]");
  }
  const asked = await askServer(server, request, {
    timeout: Math.max(1, Math.min(deadline - Date.now(), LONGEST_WAIT)),
    longest: LONGEST_ANSWER,
    headers: [
      ["Idempotency-Key", id],
      ["Grooveway-From", from],
    ],
    signal,
  });
  if (asked.type === "answered") return asked.answer;
  const subject = asked.type === "failed" ? "the server " : "";
  log.tell(`${service}: ${subject}${visible(asked.detail)}`, "unreachable");
  return failureOf(asked);
}

/** The longest time of one timer, in milliseconds. */
const LONGEST_WAIT = 2 ** 31 - 1;

function failureOf(asked: Exclude<Asked, { type: "answered" }>): ResponseParts {
  switch (asked.type) {
    case "unreachable":
      // Not the details, which are about the network of this machine.
      return failed(502, "the server behind this service cannot be reached [ServerUnreachable]");
    case "failed":
      return failed(asked.reason === "TimedOut" ? 504 : 502, `the server behind this service failed [${asked.reason}]`);
    case "unsafe":
      return failed(400, `${asked.detail} [${asked.reason}]`);
  }
}

function failed(status: number, why: string): ResponseParts {
  return { status, headers: [["content-type", "text/plain; charset=utf-8"]], body: `${why}\n` };
}

/** The URL of a caller, as rules compare it: a relay stands for all of its devices. */
function sourceOf(from: string): string {
  const parsed = parseAddress(from);
  if (!parsed.ok) return from;
  const { relay, ...address } = parsed.value;
  if (relay !== undefined) return relayURL(relay);
  return address.device === undefined ? from : deviceURL(address);
}
