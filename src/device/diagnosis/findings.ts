/**
 * What a diagnosis says besides the ways: about proxies, DNS, clock, certificate, login page, edge and token. Pure.
 *
 * @module
 */
import { unbracketed } from "../../lib/host-port.ts";
import { visible } from "../../lib/printable.ts";
import { proxyText } from "../transports/candidates.ts";
import { CLOCK_SKEW } from "./limits.ts";
import { isLoginPage, type Observations, type PathObservation, pathOf, type WayObservation } from "./observations.ts";

/** What is checked, in the order in which it is shown. */
export const CHECKS = ["proxy", "dns", "portal", "tls", "clock", "edge", "token"] as const;
export type Check = (typeof CHECKS)[number];

export interface Finding {
  readonly check: Check;
  /** `unknown`: it could not be checked, or there is nothing to check. */
  readonly outcome: "ok" | "warning" | "failed" | "unknown";
  /** What was found and, unless all is well, what to do: one line. */
  readonly text: string;
}

/** Returns one finding for each check. */
export function findingsOf(seen: Observations): Finding[] {
  const paths = [...seen.paths.values()];
  return [proxies(seen), dns(seen), portal(seen), tls(seen, paths), clock(paths), edge(seen, paths), token(seen)];
}

function proxies({ ways, paths, proxyFailure, proxyProblem }: Observations): Finding {
  if (proxyFailure !== undefined) {
    const text = "the PAC file of --proxy cannot be fetched or used: correct its URL, or name the proxy itself";
    return { check: "proxy", outcome: "failed", text };
  }
  if (proxyProblem !== undefined) {
    return { check: "proxy", outcome: "warning", text: visible(`${proxyProblem}; without it, connections are direct`) };
  }
  const proxied = ways.filter(({ way }) => way.proxies.length > 0);
  if (proxied.length === 0) return { check: "proxy", outcome: "ok", text: "none is set for this edge" };
  const found = proxied.map(
    ({ way: { proxies, source = "" } }) => `${proxies.map(proxyText).join(" then ")} (${source})`,
  );
  const text = visible([...new Set(found)].join(", "));
  const isPassed = proxied.some(
    ({ way, roundTrip }) => roundTrip !== undefined || paths.get(pathOf(way))?.connected !== undefined,
  );
  if (isPassed) return { check: "proxy", outcome: "ok", text };
  return { check: "proxy", outcome: "failed", text: `${text}: no connection comes through; see the ways` };
}

function dns({ dns: seen }: Observations): Finding {
  if (seen === undefined) {
    return { check: "dns", outcome: "unknown", text: "not needed: the host is an address, or the proxy resolves it" };
  }
  const { host, addresses, system } = seen;
  if (addresses.length > 0) return { check: "dns", outcome: "ok", text: `${host} has ${addresses.join(", ")}` };
  const isSilent = system === undefined || system === "EAI_AGAIN";
  const why = isSilent ? "DNS does not answer" : `it has no address (${system})`;
  const text = `${host}: ${why}; check the name and the DNS server of this machine. Through a proxy, the proxy resolves it`;
  return { check: "dns", outcome: "failed", text };
}

/** Whether a network wants a login before it lets anything through. */
function portal({ edge, portal: answer, paths }: Observations): Finding {
  const strangers = [...paths.values()].flatMap(({ answer }) => (answer?.by === "other" ? [answer] : []));
  const seen = [...strangers, ...(answer?.by === "other" ? [answer] : [])];
  if (seen.length === 0 && ![...paths.values()].some(({ answer }) => answer !== undefined)) {
    return { check: "portal", outcome: "unknown", text: "nothing has answered" };
  }
  const own = edge === undefined ? undefined : unbracketed(new URL(edge).hostname);
  const found = seen.find((one) => isLoginPage(one, own));
  if (found === undefined) return { check: "portal", outcome: "ok", text: "no login page of this network answers" };
  const where = found.redirect === undefined ? `a page (status ${found.status})` : `a redirect to ${found.redirect}`;
  const text = `${where} answers in place of the edge: if this network has a login page, log in with a browser`;
  return { check: "portal", outcome: "failed", text };
}

function tls({ ways, paths: byPath }: Observations, paths: readonly PathObservation[]): Finding {
  if (!ways.some(({ way }) => way.secure)) {
    const text = "not used: everything, the token included, can be read on the way";
    return { check: "tls", outcome: "warning", text };
  }
  const certificates = paths.flatMap(({ certificate }) => (certificate === undefined ? [] : [certificate]));
  const [first] = certificates;
  if (first === undefined) return { check: "tls", outcome: "unknown", text: "no server shows a certificate" };
  const refused = certificates.find(({ trust }) => trust === "none");
  if (refused !== undefined) {
    const text = `a certificate from ${refused.issuer} is refused (${refused.refused}); see the ways`;
    return { check: "tls", outcome: "failed", text };
  }
  const inspected = certificates.find(({ trust }) => trust === "machine");
  if (inspected !== undefined) {
    const hosts = [...new Set(ways.filter(({ way }) => trustOf(way, byPath) === "machine").map(({ way }) => way.host))];
    const text = `the certificate is from ${inspected.issuer} (${inspected.authority}), which only this machine trusts: TLS to ${hosts.join(", ")} is inspected, or the edge has an authority of its own`;
    return { check: "tls", outcome: "warning", text };
  }
  const known = first.trust === "given" ? "given with --ca" : "a public authority";
  return {
    check: "tls",
    outcome: "ok",
    text: `the certificate is from ${first.issuer} (${first.authority}), ${known}`,
  };
}

function trustOf(way: WayObservation["way"], paths: Observations["paths"]) {
  return paths.get(pathOf(way))?.certificate?.trust;
}

/** Only an edge's clock counts: a box that answers in its place may say anything. */
function clock(paths: readonly PathObservation[]): Finding {
  const skews = paths.flatMap(({ answer }) =>
    answer?.by === "edge" && answer.skew !== undefined ? [answer.skew] : [],
  );
  const [skew] = skews;
  if (skew === undefined) return { check: "clock", outcome: "unknown", text: "no edge has told its time" };
  const off = Math.abs(skew);
  if (off <= CLOCK_SKEW) return { check: "clock", outcome: "ok", text: "agrees with the edge's" };
  const text = `this machine's clock is ${duration(off)} ${skew > 0 ? "ahead of" : "behind"} the edge's: correct it, or tokens and certificates are refused`;
  return { check: "clock", outcome: "warning", text };
}

function edge({ edge: url }: Observations, paths: readonly PathObservation[]): Finding {
  if (url === undefined) return { check: "edge", outcome: "unknown", text: "no edge is named, only a relay" };
  const answers = paths.flatMap(({ answer }) => (answer?.by === "edge" ? [answer] : []));
  if (answers.length === 0) return { check: "edge", outcome: "unknown", text: "no edge has answered" };
  const [bad] = answers.filter(({ status }) => status !== 200);
  if (bad === undefined) return { check: "edge", outcome: "ok", text: "healthy" };
  const text =
    bad.status === 503
      ? "its disk is full: it takes no messages until its operator makes room"
      : `its /health answers ${bad.status}: check the path in the URL, and ask its operator`;
  return { check: "edge", outcome: "warning", text };
}

function token({ token: seen }: Observations): Finding {
  switch (seen.type) {
    case "none":
      return { check: "token", outcome: "unknown", text: "none is given" };
    case "kept":
      return {
        check: "token",
        outcome: "unknown",
        text: "not sent: no way with verified TLS works; --allow-plain sends it",
      };
    case "accepted":
      return { check: "token", outcome: "ok", text: "the edge accepts it for this address" };
    case "unanswered":
      return { check: "token", outcome: "unknown", text: "the edge did not answer" };
    case "refused":
      return { check: "token", outcome: "failed", text: `${visible(seen.text)} (${seen.reason})` };
  }
}

function duration(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} minutes`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} hours` : `${Math.round(hours / 24)} days`;
}
