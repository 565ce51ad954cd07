/**
 * Negotiate (Kerberos) [RFC 4559] by the optional package `kerberos`, with the ticket of the user who is logged in.
 *
 * @module
 */

/** One authentication: takes the proxy's token, if it has sent one, and returns ours. */
export type NegotiateStep = (token: string | undefined) => Promise<string>;

/** Begins an authentication with a proxy, by its host name; undefined where it is not possible. */
export type Negotiate = (host: string) => Promise<NegotiateStep | undefined>;

/** The part of the package that is used here. */
interface Kerberos {
  readonly GSS_MECH_OID_SPNEGO: number;
  initializeClient(
    service: string,
    options: { readonly mechOID: number },
  ): Promise<{ step(token: string): Promise<string> }>;
}

/** The package has no types that could be imported while it is absent. */
const PACKAGE = "kerberos";

export const negotiate: Negotiate = async (host) => {
  try {
    const loaded = (await import(PACKAGE)) as { readonly default: Kerberos };
    const kerberos = loaded.default;
    const client = await kerberos.initializeClient(`HTTP@${host}`, { mechOID: kerberos.GSS_MECH_OID_SPNEGO });
    return (token) => client.step(token ?? "");
  } catch {
    // Not installed, not built for this platform, or no ticket.
    return undefined;
  }
};
