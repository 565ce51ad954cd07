/**
 * What a diagnosis has seen, as plain data. Nothing here holds a token, a password, or text that a server or proxy sent,
 * except names of hosts and of authorities.
 *
 * @module
 */
import type { ReasonName } from "../../store-and-forward/reason-advice.ts";
import type { DeviceErrorCode } from "../device-error.ts";
import { hasAbsoluteTargets } from "../transports/candidates.ts";
import { CAPABILITIES, type Way } from "../transports/transport.ts";

/** Why something failed, without the text of the error, in which a stranger may have put words. */
export interface Failure {
  readonly code: DeviceErrorCode;
  /** The system's code: `ECONNREFUSED`. */
  readonly system?: string | undefined;
  /** The edge's reason for refusing. */
  readonly reason?: ReasonName | undefined;
}

/** One way, tried with a question to the relay. */
export interface WayObservation {
  readonly way: Way;
  /** Milliseconds until the virtual connection was established, echo included. */
  readonly established?: number | undefined;
  /** Milliseconds from the question to the relay's answer; undefined if none came. */
  readonly roundTrip?: number | undefined;
  /** Undefined if it has an answer, or was silent until the deadline. */
  readonly failure?: Failure | undefined;
  /** Bytes per second to oneself, there and back. Undefined if not measured. */
  readonly rate?: number | undefined;
}

/**
 * What ways have in common that differ only in their transport: the connection to one host and port, through the same
 * proxies. Checked with one GET of `/health`.
 */
export interface PathObservation {
  /** Milliseconds until TCP to the first proxy was connected. */
  readonly reached?: number | undefined;
  /** Milliseconds until TCP, or the tunnel through the proxies, was connected. */
  readonly connected?: number | undefined;
  /** Milliseconds until TLS was established. */
  readonly secured?: number | undefined;
  readonly certificate?: CertificateObservation | undefined;
  readonly answer?: AnswerObservation | undefined;
  /** Undefined if all went well, or the path was silent until the deadline. */
  readonly failure?: Failure | undefined;
}

export interface CertificateObservation {
  /** Who issued the server's certificate, quoted. */
  readonly issuer: string;
  /** The authority at the end of the chain, as far as it is known, quoted. */
  readonly authority: string;
  /**
   * `public`: one that comes with Node. `given`: one of the option `ca`. `machine`: only this machine, or its
   * administrator, trusts it. `none`: the certificate is refused.
   */
  readonly trust: "public" | "given" | "machine" | "none";
  /** Why it is refused: Node's code, such as `CERT_HAS_EXPIRED`. */
  readonly refused?: string | undefined;
}

export interface AnswerObservation {
  /** `edge` if it is an edge's own answer. */
  readonly by: "edge" | "other";
  readonly status: number;
  /** The host to which it redirects. */
  readonly redirect?: string | undefined;
  /** Milliseconds. */
  readonly roundTrip: number;
  /** How far this machine's clock is ahead of the server's, in milliseconds. */
  readonly skew?: number | undefined;
}

/** Whether an answer that is not the edge's looks like the login page of a network. */
export function isLoginPage({ status, redirect }: AnswerObservation, host: string | undefined): boolean {
  // Many servers send from HTTP to HTTPS of their own.
  return redirect === undefined ? status === 511 || (status >= 200 && status < 300) : redirect !== host;
}

/** What DNS said about the host of the edge. */
export interface DnsObservation {
  readonly host: string;
  readonly addresses: readonly string[];
  /** The system's code if there are none: `ENOTFOUND`. */
  readonly system?: string | undefined;
}

export type TokenObservation =
  | { readonly type: "none" }
  /** Not sent: no way with verified TLS works, and `allowPlain` is not set. */
  | { readonly type: "kept" }
  | { readonly type: "accepted" }
  /** `text` says in words of this program what is wrong. */
  | { readonly type: "refused"; readonly reason: ReasonName; readonly text: string }
  /** Sent, without an answer that says anything. */
  | { readonly type: "unanswered" };

/** All that was seen. */
export interface Observations {
  /** The edge as the user wrote it, without credentials and query; undefined for a relay alone. */
  readonly edge: string | undefined;
  /** The relay reached by SSTP, if one was named. */
  readonly relay: string | undefined;
  readonly ways: readonly WayObservation[];
  /** By `pathOf`. */
  readonly paths: ReadonlyMap<string, PathObservation>;
  /** Undefined if a proxy resolves the name, or the host is an address. */
  readonly dns: DnsObservation | undefined;
  /** What answered a GET of plain HTTP at the edge's host, asked if no direct way reached the edge. */
  readonly portal: AnswerObservation | undefined;
  readonly token: TokenObservation;
  /** Why no ways could be listed. */
  readonly proxyFailure: Failure | undefined;
  /** Why the PAC file of a setting could not be used, in words of this program; the connections are direct then. */
  readonly proxyProblem: string | undefined;
}

/** Identifies the path of a way. */
export function pathOf(way: Way): string {
  const { host, port, secure, proxies, transport } = way;
  const hops = proxies.map((proxy) => `${proxy.kind} ${proxy.host} ${proxy.port}`);
  const kind = CAPABILITIES[transport].carriesToken ? "edge" : "relay";
  return JSON.stringify([kind, host, port, secure, hops, hasAbsoluteTargets(way)]);
}
