/**
 * The TLS handshake on an existing connection. Its errors say which name and authority the certificate has, or that the
 * other side does not speak TLS.
 *
 * Trusted are the authorities that come with Node, those of the operating system, and those of the option `ca`.
 *
 * @module
 */
import { X509Certificate } from "node:crypto";
import { isIP, type Socket } from "node:net";
import * as tls from "node:tls";
import { formatHostPort } from "../../lib/host-port.ts";
import { printable } from "../../lib/printable.ts";
import { DeviceError, type DeviceErrorCode } from "../device-error.ts";
import { seconds } from "./dial-error.ts";
import type { Endpoint } from "./endpoint.ts";
import { LOWER_MTU } from "./path-mtu.ts";

export interface SecureOptions extends Endpoint {
  /** PEM certificates of the authorities to trust in addition. */
  readonly ca: string | undefined;
  readonly signal: AbortSignal;
  /** Timeout in milliseconds. */
  readonly timeout: number;
}

/** Authorities to trust: those of `ca` alone, those that come with Node too, those of the operating system too. */
const TRUSTS = ["given", "node", "system"] as const;
type Trust = (typeof TRUSTS)[number];

interface HandshakeOptions extends SecureOptions {
  readonly trust: Trust;
}

/** What was needed last, with `ca` and without. The next handshake begins with it. */
const needed: { given: Trust; none: Trust } = { given: "given", none: "node" };

/**
 * Connects, and performs a TLS handshake as an HTTP/1.1 client.
 *
 * To prepare Node's authorities beside others takes 20 ms, and to read the operating system's 100 ms and more. So this is
 * done only when nobody else vouches for the server, as behind a proxy that inspects TLS, and then with another connection.
 *
 * @throws DeviceError CertificateRefused, TlsFailed; the reason of an aborted signal; errors of `connect`
 */
export async function secured(connect: () => Promise<Socket>, options: SecureOptions): Promise<Socket> {
  const end = performance.now() + options.timeout;
  const kind = options.ca === undefined ? "none" : "given";
  for (const trust of TRUSTS.slice(TRUSTS.indexOf(needed[kind]))) {
    const timeout = Math.max(1, end - performance.now());
    try {
      const socket = await handshake(await connect(), { ...options, timeout, trust });
      needed[kind] = trust;
      return socket;
    } catch (error) {
      const isLast = trust === "system" || (trust === "node" && systemAuthorities().length === 0);
      if (isLast || !isUnknownAuthority(error)) throw error;
    }
  }
  throw new Error("the last attempt to connect has neither succeeded nor failed");
}

/** The operating system's authorities, in PEM. Empty before Node 22.15, which cannot read them. */
function systemAuthorities(): readonly string[] {
  return typeof tls.getCACertificates === "function" ? tls.getCACertificates("system") : [];
}

/** Contexts that are expensive to make, by what they trust. One, or one for each of few `ca`. */
const contexts = new Map<string, tls.SecureContext>();
const CONTEXTS = 8;

/** What to trust; undefined for Node's default. */
function contextOf({ ca, trust }: HandshakeOptions): tls.SecureContext | undefined {
  if (ca === undefined && trust === "node") return undefined;
  const key = JSON.stringify([trust, ca]);
  const made = contexts.get(key);
  if (made !== undefined) return made;
  const context = tls.createSecureContext({
    ca: [
      ...(trust === "given" ? [] : nodeAuthorities()),
      ...(trust === "system" ? systemAuthorities() : []),
      ...(ca === undefined ? [] : [ca]),
    ],
  });
  if (contexts.size === CONTEXTS) contexts.clear();
  contexts.set(key, context);
  return context;
}

function nodeAuthorities(): readonly string[] {
  // Node before 22.15 names only those that it comes with.
  return typeof tls.getCACertificates === "function" ? tls.getCACertificates("default") : tls.rootCertificates;
}

function isUnknownAuthority(error: unknown): boolean {
  if (!(error instanceof DeviceError) || error.code !== "CertificateRefused") return false;
  const { code } = error.cause as TlsError;
  return code !== undefined && NOT_VOUCHED_FOR.has(code);
}

/** Performs a handshake. Closes the connection on failure. */
function handshake(plain: Socket, options: HandshakeOptions): Promise<Socket> {
  const { host, signal, timeout } = options;
  const name = host.replace(/\.$/, "");
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  plain.on("error", () => undefined);
  const context = contextOf(options);
  const secure = tls.connect({
    socket: plain,
    host: name,
    // An IP address is no valid server name [RFC 6066 3]; Node still checks it against the certificate.
    ...(isIP(name) === 0 && { servername: name }),
    ...(context !== undefined && { secureContext: context }),
    ALPNProtocols: ["http/1.1"],
  });
  let certificate: tls.PeerCertificate | undefined;
  // Read it before Node's verdict: a rejected certificate is no longer available afterwards.
  secure.prependOnceListener("secure", () => {
    // Bun has null where there is none any more.
    certificate = secure.getPeerCertificate() ?? undefined;
  });
  const fail = (why: unknown) => {
    settle();
    secure.on("error", () => undefined).destroy();
    plain.destroy();
    reject(why);
  };
  const onAbort = () => fail(signal.reason);
  const onError = (error: TlsError) => fail(failure(options, error, certificate));
  const onClose = () => fail(failure(options, { code: "ECONNRESET", message: "closed" }, certificate));
  const timer = setTimeout(() => fail(silence(options)), timeout);
  const onSecure = () => {
    settle();
    resolve(secure);
  };
  const settle = () => {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
    secure.off("error", onError).off("close", onClose).off("secureConnect", onSecure);
  };
  signal.addEventListener("abort", onAbort, { once: true });
  secure.on("error", onError).on("close", onClose).on("secureConnect", onSecure);
  if (signal.aborted) onAbort();
  return promise;
}

/** An error of node:tls. */
interface TlsError {
  readonly message: string;
  readonly code?: string;
  /** OpenSSL's short description. */
  readonly reason?: string;
}

const NO_TLS: ReadonlySet<string> = new Set([
  "ERR_SSL_WRONG_VERSION_NUMBER",
  "ERR_SSL_PACKET_LENGTH_TOO_LONG",
  "ERR_SSL_RECORD_LAYER_FAILURE",
  "ERR_SSL_HTTP_REQUEST",
  "ERR_SSL_UNKNOWN_PROTOCOL",
]);

/** Node's codes for a certificate without a trusted authority. */
const NOT_VOUCHED_FOR: ReadonlySet<string> = new Set([
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "CERT_UNTRUSTED",
  "INVALID_CA",
]);

function failure(
  options: HandshakeOptions,
  error: TlsError,
  certificate: tls.PeerCertificate | undefined,
): DeviceError {
  const { host, ca } = options;
  const code = error.code ?? "";
  const tell = (name: DeviceErrorCode, text: string) =>
    new DeviceError(name, `TLS with ${formatHostPort(options)} failed: ${text}`, { cause: error });
  if (NO_TLS.has(code)) {
    return tell("TlsFailed", "the server does not speak TLS on this port; write http://, or the port that does");
  }
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    const names = certificate === undefined ? "another name" : namesOf(certificate);
    return tell(
      "CertificateRefused",
      `its certificate is for ${names}, not for ${host}; connect by a name in the certificate`,
    );
  }
  if (NOT_VOUCHED_FOR.has(code)) return tell("CertificateRefused", unknownAuthority(code, certificate, ca));
  const now = `this machine's clock says ${new Date().toUTCString()}`;
  if (code === "CERT_HAS_EXPIRED") {
    const until =
      certificate === undefined ? "" : `${issuedBy(certificate)}, valid until ${printable(certificate.valid_to)},`;
    return tell("CertificateRefused", `its certificate${until} or one of its authorities has expired; ${now}`);
  }
  if (code === "CERT_NOT_YET_VALID") {
    const by = certificate === undefined ? "" : issuedBy(certificate);
    const from = certificate === undefined ? "" : ` before ${printable(certificate.valid_from)}`;
    return tell("CertificateRefused", `its certificate${by} is not valid${from}; ${now}`);
  }
  if (/^(CERT_|CRL_|ERROR_IN_|UNABLE_TO_DECODE|HOSTNAME_MISMATCH|PATH_LENGTH)/.test(code)) {
    return tell("CertificateRefused", `its certificate is invalid: ${error.message} (${code})`);
  }
  switch (code) {
    case "ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL":
      return tell("TlsFailed", "the server does not accept HTTP/1.1; enable it there, or connect to another port");
    case "ERR_SSL_TLSV1_UNRECOGNIZED_NAME":
      return tell("TlsFailed", `the server does not know the name ${host}; check the URL`);
    case "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED":
      return tell("TlsFailed", "the server requires a client certificate, which this client cannot give");
    case "ECONNRESET":
    case "EPIPE":
      return tell(
        "TlsFailed",
        "the connection was closed during the handshake; check that the port speaks TLS, and look for a firewall in between",
      );
  }
  const [line = ""] = (error.reason ?? error.message).split("\n");
  return tell("TlsFailed", `${line.trim() || "no reason was given"}${code === "" ? "" : ` (${code})`}`);
}

function silence(options: HandshakeOptions): DeviceError {
  const text = `TLS with ${formatHostPort(options)} did not finish within ${seconds(options.timeout)}, although TCP connected`;
  return new DeviceError("TlsFailed", `${text}; the server hangs, or large packets are lost: ${LOWER_MTU}`);
}

function unknownAuthority(code: string, certificate: tls.PeerCertificate | undefined, ca: string | undefined): string {
  const issuer = certificate && nameOf(certificate.issuer);
  const own = issuer !== undefined && issuer === nameOf((certificate as tls.PeerCertificate).subject);
  const by = own ? `${issuer} itself` : (issuer ?? "an unknown authority");
  const given = ca === undefined ? "" : `, and which is not among those given (${authoritiesOf(ca)})`;
  const whom = `which this machine does not trust${given}`;
  const publicOne = "; if that is a public authority, make the server send its whole chain";
  const chain = code === "UNABLE_TO_VERIFY_LEAF_SIGNATURE" && ca === undefined ? publicOne : "";
  return `its certificate is from ${by}, ${whom}; give that authority's certificate with --ca FILE, or the option ca${chain}`;
}

function issuedBy({ issuer }: tls.PeerCertificate): string {
  return ` from ${nameOf(issuer) ?? "an unknown authority"}`;
}

/** The names of the authorities in a PEM text. */
function authoritiesOf(ca: string): string {
  const certificates = ca.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
  const shown = certificates.slice(0, 3).map((pem) => {
    try {
      return printable(new X509Certificate(pem).subject.replace(/[\s\S]*^(?:CN|O)=/m, "").replace(/\n[\s\S]*/, ""));
    } catch {
      return "an unreadable one";
    }
  });
  return `${shown.join(", ")}${certificates.length > shown.length ? " and others" : ""}`;
}

/** The common name or organization of an X.500 name, escaped: it is untrusted. */
export function nameOf(name: tls.PeerCertificate["issuer"] | undefined): string | undefined {
  const found = name?.CN ?? name?.O;
  const text = Array.isArray(found) ? found[0] : found;
  return text === undefined ? undefined : printable(text);
}

function namesOf({ subjectaltname, subject }: tls.PeerCertificate): string {
  const all = subjectaltname?.split(", ").map((entry) => entry.replace(/^(DNS|IP Address):/, "")) ?? [];
  if (all.length === 0) return nameOf(subject) ?? "no name";
  const shown = all.slice(0, 3).map(printable).join(", ");
  return all.length > 3 ? `${shown} and ${all.length - 3} more` : shown;
}
