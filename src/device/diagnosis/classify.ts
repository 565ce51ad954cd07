/**
 * What observations mean. Pure.
 *
 * @module
 */
import { formatHostPort } from "../../lib/host-port.ts";
import { visible } from "../../lib/printable.ts";
import { hasAbsoluteTargets, proxyText } from "../transports/candidates.ts";
import { CAPABILITIES, type TransportName, type Way } from "../transports/transport.ts";
import { SLOW_RATE, SLOW_ROUND_TRIP } from "./limits.ts";
import type { Failure, Observations, PathObservation, WayObservation } from "./observations.ts";
import { isLoginPage, pathOf } from "./observations.ts";

/** What a firewall does to a way. */
export const STATUSES = ["works", "slow", "inspected", "needs authentication", "buffered", "blocked"] as const;
export type Status = (typeof STATUSES)[number];

export interface Verdict {
  readonly status: Status;
  /** Whether a device can use the way. True for some that are inspected. */
  readonly isUsable: boolean;
  /** One sentence: what happens on the way. Undefined if all is well. */
  readonly why?: string | undefined;
  /** What the administrator of the network, or the user, has to change. Undefined if nothing. */
  readonly need?: string | undefined;
}

/** Judges each way, in the order of the observations. */
export function classify({ ways, paths, dns }: Pick<Observations, "ways" | "paths" | "dns">): Verdict[] {
  return ways.map((seen) => {
    const key = pathOf(seen.way);
    if (isUnresolved(seen, paths.get(key) ?? {}, dns)) return unresolved(seen.way.host);
    const beside = ways.filter((other) => other.roundTrip !== undefined && pathOf(other.way) === key);
    const working = new Set(beside.map(({ way }) => way.transport));
    return verdictOf(seen, paths.get(key) ?? {}, working);
  });
}

/**
 * Chooses a way: the first that works without a blemish, or else the first usable one of those that read along, or else
 * a slow one.
 *
 * @returns its index; undefined if none can be used
 */
export function recommend(verdicts: readonly Verdict[]): number | undefined {
  for (const status of ["works", "inspected", "slow"] as const) {
    const index = verdicts.findIndex((verdict) => verdict.isUsable && verdict.status === status);
    if (index >= 0) return index;
  }
  return undefined;
}

/** @param working transports that work over the same path */
function verdictOf(seen: WayObservation, path: PathObservation, working: ReadonlySet<TransportName>): Verdict {
  return (
    usable(seen, path) ??
    ofProxy(seen, path) ??
    ofCertificate(seen, path) ??
    ofConnection(seen, path) ??
    ofStranger(seen, path) ??
    ofRefusal(seen) ??
    ofRequests(seen, path, working) ??
    ofTransport(seen, working)
  );
}

function usable({ way, roundTrip, rate }: WayObservation, { certificate }: PathObservation): Verdict | undefined {
  if (roundTrip === undefined) return undefined;
  if (certificate?.trust === "machine") {
    return {
      status: "inspected",
      isUsable: true,
      why: `The certificate is from ${certificate.issuer}, which only this machine trusts: TLS ends at a box on the way, which can read everything, unless the edge has an authority of its own.`,
      need: `exempt ${way.host} from TLS inspection`,
    };
  }
  const works: Verdict = { status: "works", isUsable: true };
  if (roundTrip > SLOW_ROUND_TRIP) return { ...works, status: "slow", why: `An answer takes ${seconds(roundTrip)}.` };
  if (rate !== undefined && rate < SLOW_RATE) {
    return { ...works, status: "slow", why: `It carries ${Math.round(rate / 1024)} KiB a second.` };
  }
  return works;
}

function ofProxy({ way, failure }: WayObservation, path: PathObservation): Verdict | undefined {
  const proxy = viaOf(way);
  const to = formatHostPort(way);
  // While the way was waiting for its turn with the password, the check of the path may have met the proxy.
  const met = failure ?? (path.connected === undefined ? path.failure : undefined);
  switch (met?.code) {
    case "ProxyNeedsCredentials":
      return authentication(`The proxy ${proxy} requires a user name and password.`, way);
    case "ProxyRefusesCredentials":
      return authentication(`The proxy ${proxy} refuses the user name or password. They are not sent again.`, way);
    case "ProxyRefuses": {
      const isSocks = way.proxies.at(-1)?.kind.startsWith("socks") === true;
      const method = isSocks ? "connections" : "the method CONNECT";
      return blocked(
        `The proxy ${proxy} refuses to connect to ${to}.`,
        `allow ${method} to ${to} in the proxy ${proxy}`,
      );
    }
    case "ProxyFailed":
      return notConnecting(way);
    default:
      return undefined;
  }
}

function notConnecting(way: Way): Verdict {
  const proxy = viaOf(way);
  return blocked(
    `The proxy ${proxy} does not answer as a proxy of that kind, or not in time.`,
    `check host, port and kind of the proxy ${proxy}, and that it reaches ${formatHostPort(way)}`,
  );
}

function authentication(why: string, way: Way): Verdict {
  const need = `give credentials for ${viaOf(way)} with --proxy-credentials FILE, or let ${way.host} pass there without`;
  return { status: "needs authentication", isUsable: false, why, need };
}

function ofCertificate({ way, failure }: WayObservation, path: PathObservation): Verdict | undefined {
  if (failure?.code !== "CertificateRefused" && path.failure?.code !== "CertificateRefused") return undefined;
  // Nothing is connected yet: it is the certificate of a proxy that is reached over TLS.
  if (path.connected === undefined && way.proxies.length > 0) {
    return blocked(
      `The certificate of the proxy ${viaOf(way)} is refused.`,
      "give its authority's certificate with --ca FILE, or name the proxy as in its certificate",
    );
  }
  const { certificate } = path;
  const system = certificate?.refused ?? failure?.system ?? path.failure?.system;
  const by = certificate === undefined ? "" : ` from ${certificate.issuer}`;
  const exempt = `exempt ${way.host} from TLS inspection`;
  switch (system) {
    case "CERT_HAS_EXPIRED":
    case "CERT_NOT_YET_VALID":
      return blocked(
        `The certificate${by} has expired, or is not valid yet.`,
        "check the clock of this machine; otherwise renew the certificate of the edge",
      );
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return blocked(
        `Another server answers in place of ${way.host}, with a certificate${by} for another name.`,
        `log in to the network if it has a login page; otherwise ${exempt}`,
      );
    default: {
      const why = `The certificate is${by || " from an authority"} that this machine does not trust: TLS is inspected on the way, or the edge has an authority of its own.`;
      return {
        status: "inspected",
        isUsable: false,
        why,
        need: `${exempt}, or give that authority's certificate with --ca FILE`,
      };
    }
  }
}

/** It does not get as far as an HTTP answer. */
function ofConnection({ way, failure }: WayObservation, path: PathObservation): Verdict | undefined {
  const to = formatHostPort(way);
  const why = failure ?? path.failure;
  if (path.connected === undefined) return unconnected(way, why, path);
  if (way.secure && path.secured === undefined) {
    const what = why === undefined ? "is not answered" : "is cut off";
    return blocked(
      `TCP connects to ${to}, but the TLS handshake ${what}: a firewall filters by name or protocol, or that port has no TLS.`,
      `let TLS to ${to} through, without a filter for ${way.host}`,
    );
  }
  return undefined;
}

/** A name that DNS does not answer is silence like that of the host itself, but nobody has asked the host yet. */
function isUnresolved(
  { way, roundTrip, failure }: WayObservation,
  path: PathObservation,
  dns: Observations["dns"],
): boolean {
  const isSilent = roundTrip === undefined && path.connected === undefined && (failure ?? path.failure) === undefined;
  return isSilent && way.proxies.length === 0 && dns?.host === way.host && dns.addresses.length === 0;
}

function unresolved(host: string): Verdict {
  return blocked(`No DNS server answers for ${host}.`, "check the DNS server of this machine");
}

function unconnected(way: Way, failure: Failure | undefined, { reached }: PathObservation): Verdict {
  const first = way.proxies[0] ?? way;
  const at = formatHostPort(first);
  const what = way.proxies.length === 0 ? at : `the proxy ${at}`;
  switch (failure?.system) {
    case "ENOTFOUND":
    case "EAI_FAIL":
    case "EAI_NODATA":
    case "EAI_NONAME":
      return blocked(`DNS has no address for ${first.host}.`, `check the name, and let DNS resolve ${first.host}`);
    case "EAI_AGAIN":
      return unresolved(first.host);
    case "ECONNREFUSED":
      return blocked(
        `The connection to ${what} is refused.`,
        `let TCP to ${at} out; otherwise check that it is running`,
      );
    case "ECONNRESET":
      return blocked(`The connection to ${what} is cut off at once.`, `let TCP to ${at} out`);
    case "EACCES":
    case "EPERM":
      return blocked(
        `This machine does not let the program connect to ${what}.`,
        `let TCP to ${at} out in the firewall of this machine`,
      );
    case "ENETUNREACH":
    case "EHOSTUNREACH":
    case "EADDRNOTAVAIL":
      return blocked(`There is no route to ${what}.`, "check the network of this machine");
    default:
      // TCP to the proxy is open: the proxy is silent, or what is behind it.
      return reached === undefined
        ? blocked(`Nothing answers at ${what}.`, `let TCP to ${at} out`)
        : notConnecting(way);
  }
}

/** Somebody else has answered. */
function ofStranger({ way, failure }: WayObservation, { answer }: PathObservation): Verdict | undefined {
  if (!CAPABILITIES[way.transport].carriesToken) {
    return failure?.code === "NotAnEdge"
      ? blocked("What answers is no SSTP relay.", `let TCP to ${formatHostPort(way)} through unchanged`)
      : undefined;
  }
  if (answer?.by !== "other") return undefined;
  const { status, redirect } = answer;
  if (redirect === way.host) {
    const need = way.secure ? "check the path in the URL" : `write https:// in the URL if ${way.host} is the edge`;
    return blocked(`${way.host} answers with a redirect to itself, which no edge does.`, need);
  }
  if (status === 407 && way.proxies.length > 0) {
    return authentication(`The proxy ${viaOf(way)} requires a user name and password.`, way);
  }
  if (status === 407) {
    const need = `name the proxy with --proxy, and give credentials for it, or let ${way.host} pass there without`;
    const why = "A proxy in between requires a user name and password.";
    return { status: "needs authentication", isUsable: false, why, need };
  }
  const said = redirect === undefined ? `with ${status}` : `with a redirect to ${redirect}`;
  if (isLoginPage(answer, way.host)) {
    return blocked(
      `Something else answers in place of the edge, ${said}: most likely the login page of this network.`,
      `log in to the network in a browser, then try again; otherwise check the URL`,
    );
  }
  const need = `let ${way.secure ? "HTTPS" : "HTTP"} to ${formatHostPort(way)} through; otherwise check the URL`;
  const who = hasAbsoluteTargets(way) ? `The proxy ${viaOf(way)}` : "Something else";
  return blocked(`${who} answers in place of the edge, ${said}.`, need);
}

/** The edge has answered by this transport, and refuses. */
function ofRefusal({ way, failure }: WayObservation): Verdict | undefined {
  if (failure?.reason === "UpgradeNeeded") return noUpgrade(way, "A proxy removes the header Upgrade.");
  if (failure?.reason === "RelayNotAllowed" || failure?.reason === "RelayPrivate") {
    return blocked(
      `The edge is reached, but does not know itself by the name ${way.host} (${failure.reason}).`,
      "use the URL with the edge's own name, or ask its operator to add this one",
    );
  }
  const isEdges = failure?.code === "Refused" || failure?.code === "TokenRefused" || failure?.code === "RelayRefused";
  if (!isEdges) return undefined;
  const reason = failure.reason === undefined ? "" : ` (${failure.reason})`;
  return blocked(
    `The edge is reached, and refuses${reason}.`,
    "ask the operator of the edge; the README lists the reasons",
  );
}

/** It connects, but no request is answered, of no transport. */
function ofRequests(
  { way, established }: WayObservation,
  { answer, failure }: PathObservation,
  working: ReadonlySet<TransportName>,
): Verdict | undefined {
  const isRaw = !CAPABILITIES[way.transport].carriesToken;
  if (isRaw || answer !== undefined || established !== undefined || working.size > 0) return undefined;
  const to = formatHostPort(way);
  const what = failure === undefined ? "is not answered" : "is cut off, or answered with something else than HTTP";
  return blocked(
    `The connection to ${to} is made, but a request ${what}.`,
    `let ${way.secure ? "HTTPS" : "HTTP"} to ${to} through unchanged; otherwise check the port in the URL`,
  );
}

/** An edge is at the other end, but this transport gets no answer from it. */
function ofTransport({ way, established, failure }: WayObservation, working: ReadonlySet<TransportName>): Verdict {
  const to = formatHostPort(way);
  const scheme = way.secure ? "HTTPS" : "HTTP";
  const held = failure === undefined ? "held back" : "refused or cut off";
  if (!CAPABILITIES[way.transport].carriesToken) {
    return blocked(`TCP connects to ${to}, but SSTP gets no answer.`, `let TCP to ${to} through unchanged`);
  }
  if (established !== undefined && failure !== undefined) {
    return blocked("The connection is made, and then cut off.", `let connections to ${to} last`);
  }
  if (established !== undefined) {
    return buffered(
      "The connection is made, but data is held back on the way.",
      `pass data to and from ${to} on at once`,
    );
  }
  switch (way.transport) {
    case "websocket":
      return noUpgrade(way, `Requests pass, but a WebSocket is ${held}.`);
    case "longlived":
    case "keepalive":
      if (failure === undefined && (working.has("polling") || working.has("keepalive"))) {
        return buffered(
          "A box on the way passes a request or an answer on only when it is whole.",
          `turn off buffering of requests and answers (GET and POST) for ${to}`,
        );
      }
      return blocked(
        `GET passes, but its ${way.transport === "longlived" ? "long " : ""}POST requests are ${held}.`,
        `allow the method POST, with bodies of any length, to ${to} by ${scheme}`,
      );
    default:
      return blocked(`GET passes, but POST requests are ${held}.`, `allow the method POST to ${to} by ${scheme}`);
  }
}

function noUpgrade(way: Way, why: string): Verdict {
  return blocked(why, `let GET with Upgrade: websocket to ${formatHostPort(way)} pass`);
}

function blocked(why: string, need: string): Verdict {
  return { status: "blocked", isUsable: false, why, need };
}

function buffered(why: string, need: string): Verdict {
  return { status: "buffered", isUsable: false, why, need };
}

/** The proxies of a way, the nearest first. */
function viaOf({ proxies }: Way): string {
  return visible(proxies.map(proxyText).join(" then "));
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}
