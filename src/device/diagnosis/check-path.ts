/**
 * Checks what ways of different transports have in common: TCP or the tunnel, TLS, and whether an edge answers at the
 * other end. Sends no token.
 *
 * @module
 */
import type { Socket } from "node:net";
import { HTTP_PORT, REASON_HEADER } from "../../encapsulation/index.ts";
import { bracketed, unbracketed } from "../../lib/host-port.ts";
import { printable } from "../../lib/printable.ts";
import { converse } from "../transports/ask-edge.ts";
import { hasAbsoluteTargets } from "../transports/candidates.ts";
import { type Dialler, dial, direct } from "../transports/dial.ts";
import type { ForeignAnswer } from "../transports/not-an-edge.ts";
import type { Proxies } from "../transports/proxy/proxy-settings.ts";
import { proxyDialler, tunnelDialler } from "../transports/proxy/tunnel.ts";
import { CAPABILITIES, type Way } from "../transports/transport.ts";
import { checkCertificate } from "./check-certificate.ts";
import { failureOf } from "./failure.ts";
import type { AnswerObservation, PathObservation } from "./observations.ts";

export interface PathOptions {
  /** URL of the edge; undefined for a relay alone. */
  readonly edge: string | undefined;
  /** PEM certificates to trust in addition. */
  readonly ca: string | undefined;
  readonly proxies: Proxies;
  /** Milliseconds. */
  readonly timeout: number;
  readonly signal: AbortSignal;
}

/**
 * Checks the path of a way.
 *
 * @throws the reason of an aborted signal, and nothing else
 */
export async function checkPath(way: Way, options: PathOptions): Promise<PathObservation> {
  const { ca, timeout, signal: closing } = options;
  const late = AbortSignal.timeout(timeout);
  const signal = AbortSignal.any([closing, late]);
  const { host, port, secure } = way;
  const start = performance.now();
  let seen: PathObservation = {};
  const first: Dialler = async (to, patience) => {
    const socket = await direct()(to, patience);
    seen = { reached: performance.now() - start, ...seen };
    return socket;
  };
  const dialler = diallerOf(way, options, first);
  const observed: Dialler = async (to, patience) => {
    const socket = await dialler(to, patience);
    seen = { ...seen, connected: performance.now() - start };
    return socket;
  };
  try {
    // The signal aborts first, so that silence is not taken for an error.
    const socket = await dial({ host, port, secure, ca, dialler: observed, signal, timeout: 2 * timeout });
    if (secure) seen = { ...seen, secured: performance.now() - start };
    socket.on("error", () => undefined);
    try {
      if (CAPABILITIES[way.transport].carriesToken)
        seen = { ...seen, answer: await askHealth(socket, way, options, signal) };
    } finally {
      socket.destroy();
    }
  } catch (error) {
    closing.throwIfAborted();
    if (!late.aborted) seen = { ...seen, failure: failureOf(error) };
  }
  const isRefused = seen.failure?.code === "CertificateRefused";
  if (!secure || (seen.secured === undefined && !isRefused)) return seen;
  // With a time of its own: without the certificate, inspection would look like an open way.
  const looking = AbortSignal.any([closing, AbortSignal.timeout(timeout)]);
  const connect = () => dialler({ host, port }, { signal: looking, timeout });
  const question = { host, port, ca, isTrusted: !isRefused, connect, signal: looking };
  const certificate = await checkCertificate(question).catch(() => undefined);
  closing.throwIfAborted();
  return { ...seen, certificate };
}

/**
 * Asks for plain HTTP at the host of the edge: a network with a login page answers there for every host.
 *
 * @throws the reason of an aborted signal, and nothing else
 */
export async function checkPortal(host: string, options: PathOptions): Promise<AnswerObservation | undefined> {
  const way: Way = { transport: "polling", host, port: HTTP_PORT, secure: false, proxies: [] };
  const { answer } = await checkPath(way, { ...options, edge: `http://${bracketed(host)}` });
  return answer;
}

/**
 * Makes a dialler to the end of a path: to the host, or to the proxy that forwards requests.
 *
 * @param first connects to the first proxy
 */
function diallerOf(way: Way, { ca, proxies: { accounts } }: PathOptions, first: Dialler): Dialler {
  const { proxies, source = "" } = way;
  if (proxies.length === 0) return direct();
  const options = { source, accounts, ca, dialler: first };
  return (hasAbsoluteTargets(way) ? proxyDialler : tunnelDialler)(proxies, options);
}

async function askHealth(
  socket: Socket,
  way: Way,
  { edge: text = "" }: PathOptions,
  signal: AbortSignal,
): Promise<AnswerObservation> {
  const edge = edgeAt(text, way);
  const asked = Date.now();
  const start = performance.now();
  const answer = await converse(socket, { edge, path: "/health", isAbsolute: hasAbsoluteTargets(way) }, signal);
  const roundTrip = performance.now() - start;
  return {
    by: isEdge(answer) ? "edge" : "other",
    status: answer.status,
    redirect: hostOf(edge, answer.header("location")),
    roundTrip,
    skew: skewOf(answer.header("date"), asked + roundTrip / 2),
  };
}

/** The URL of the edge as a way reaches it. */
export function edgeAt(text: string, { host, port, secure }: Way): URL {
  const edge = new URL(text);
  edge.username = "";
  edge.password = "";
  edge.protocol = secure ? "https:" : "http:";
  edge.host = `${bracketed(host)}:${port}`;
  return edge;
}

function isEdge({ header, body }: ForeignAnswer): boolean {
  if (header(REASON_HEADER.toLowerCase()) !== undefined) return true;
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(body));
    return (value as { readonly service?: unknown } | null)?.service === "grooveway";
  } catch {
    return false;
  }
}

/** The host of a redirect. The rest of it may be a secret. */
function hostOf(edge: URL, location: string | undefined): string | undefined {
  if (location === undefined || !URL.canParse(location, edge.href)) return undefined;
  const { hostname } = new URL(location, edge.href);
  return /^[\w.:[\]-]{1,253}$/.test(hostname) ? unbracketed(hostname) : printable(hostname);
}

/** @param now when the server wrote the header, by this machine's clock */
function skewOf(date: string | undefined, now: number): number | undefined {
  const said = date === undefined ? Number.NaN : Date.parse(date);
  // The header counts whole seconds.
  return Number.isNaN(said) ? undefined : now - (said + 500);
}
