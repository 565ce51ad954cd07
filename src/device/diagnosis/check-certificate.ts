/**
 * Looks at a server's certificate as a browser without this machine's own settings would: whether an authority that
 * comes with Node vouches for it, and who issued it. Sends nothing but the TLS handshake.
 *
 * @module
 */
import { isIP, type Socket } from "node:net";
import * as tls from "node:tls";
import type { Endpoint } from "../transports/endpoint.ts";
import { nameOf } from "../transports/tls.ts";
import { LONGEST_CHAIN } from "./limits.ts";
import type { CertificateObservation } from "./observations.ts";

export interface CertificateQuestion extends Endpoint {
  /** PEM certificates that the user has given. */
  readonly ca: string | undefined;
  /** Whether this program has verified the server, with all that it trusts. */
  readonly isTrusted: boolean;
  /** Makes a connection to the server. */
  readonly connect: () => Promise<Socket>;
  readonly signal: AbortSignal;
}

/**
 * Returns what the certificate says; undefined if the server shows none.
 *
 * @throws errors of `connect`; the reason of an aborted signal
 */
export async function checkCertificate(question: CertificateQuestion): Promise<CertificateObservation | undefined> {
  const seen = await look(question, tls.rootCertificates);
  if (seen === undefined) return undefined;
  const { refused, ...names } = seen;
  if (refused === undefined) return { ...names, trust: "public" };
  if (!question.isTrusted) return { ...names, trust: "none", refused };
  if (question.ca === undefined) return { ...names, trust: "machine" };
  const given = await look(question, [question.ca]);
  return { ...names, trust: given !== undefined && given.refused === undefined ? "given" : "machine" };
}

interface Look {
  readonly issuer: string;
  readonly authority: string;
  /** Node's code if these authorities do not vouch for the server. */
  readonly refused: string | undefined;
}

async function look(question: CertificateQuestion, ca: readonly string[]): Promise<Look | undefined> {
  const { host, connect, signal } = question;
  const plain = await connect();
  plain.on("error", () => undefined);
  const { promise, resolve } = Promise.withResolvers<Look | undefined>();
  const name = host.replace(/\.$/, "");
  const socket = tls.connect({
    socket: plain,
    host: name,
    ...(isIP(name) === 0 && { servername: name }),
    secureContext: tls.createSecureContext({ ca: [...ca] }),
    ALPNProtocols: ["http/1.1"],
    // The certificate is only looked at. Nothing is sent on this connection.
    rejectUnauthorized: false,
  });
  const onAbort = () => resolve(undefined);
  signal.addEventListener("abort", onAbort, { once: true });
  socket.on("error", () => resolve(undefined));
  socket.on("close", () => resolve(undefined));
  socket.on("secureConnect", () => resolve(seen(socket, name)));
  if (signal.aborted) onAbort();
  try {
    return await promise;
  } finally {
    signal.removeEventListener("abort", onAbort);
    socket.destroy();
    plain.destroy();
  }
}

function seen(socket: tls.TLSSocket, host: string): Look {
  const own = socket.getPeerCertificate(true);
  let last = own;
  for (let length = 1; length < LONGEST_CHAIN; length += 1) {
    const { issuerCertificate: next } = last;
    if (next === undefined || next === last) break;
    last = next;
  }
  const unknown = '"unknown"';
  return {
    issuer: nameOf(own.issuer) ?? unknown,
    // The last certificate names the authority above it, which is itself if the chain is whole.
    authority: nameOf(last.issuer) ?? unknown,
    refused: refusalOf(socket, host, own),
  };
}

/** Undefined if the server is verified. */
function refusalOf(socket: tls.TLSSocket, host: string, own: tls.PeerCertificate): string | undefined {
  if (!socket.authorized) {
    // Node has the code here, although the types speak of an error.
    const error: unknown = socket.authorizationError;
    return typeof error === "string" ? error : ((error as { code?: string } | null)?.code ?? "CERT_UNTRUSTED");
  }
  return tls.checkServerIdentity(host, own) === undefined ? undefined : "ERR_TLS_CERT_ALTNAME_INVALID";
}
