/**
 * What an operator sets: the variables of wrangler.toml. They know nothing of the platform, so that the command reads them
 * as the edge does.
 *
 * @module
 */
import type { AuthSettings } from "../../auth/auth-settings.ts";

export interface Settings extends AuthSettings {
  /** Origin relays that a virtual connection may be passed through to. Empty: none. */
  readonly ORIGIN_RELAYS?: string;
  /** What one principal may do, as parseRate reads it. Empty: nobody has limits. */
  readonly RATE?: string;
  /** What may wait for one peer, as parseQuota reads it. Empty: 256 MiB, 100,000 messages, half of it for one sender. */
  readonly QUOTA?: string;
  /** Origin relays that this edge stays connected to, so that what waits there for its peers comes. */
  readonly LINKS?: string;
  /** How origin relays are connected to, in order: see policy/ways.ts. Empty: SSTP on 2492 and 443, then HTTP on 80. */
  readonly LINK_WAYS?: string;
  /** Secrets shared with other relays, a secret itself: see parseLinkSecrets. Empty: links prove nothing, and stay in private networks or in TLS. */
  readonly LINK_SECRETS?: string;
  /** Relays with a secret that may be linked without TLS across the public internet. */
  readonly LINK_PLAIN?: string;
  /** URL of the DNS over HTTPS, in its JSON form, that resolves the names of origin relays. Empty: Cloudflare's. */
  readonly RESOLVER?: string;
  /** Reverse proxies that say where a request comes from: see policy/proxies.ts. Empty: those of the edge's own machine. */
  readonly TRUSTED_PROXIES?: string;
  /** Seconds for which a device may keep messages of its identity unacknowledged while another waits. Empty: 120. */
  readonly ACKNOWLEDGE_TIME?: string;
  /** The path under which the edge stands, when the reverse proxy does not take it away. Empty: the root. */
  readonly PREFIX?: string;
  /** What is permitted for development: see policy/dev.ts. Empty in production. */
  readonly DEV?: string;
  /** By it the command on this machine is known. Nobody sets it elsewhere. */
  readonly LOCAL_SECRET?: string;
  /** Opens /admin. Empty: there is none. */
  readonly ADMIN_TOKEN?: string;
  /** `origin`: a virtual connection that is passed through needs no token, since the origin relay asks for its own. */
  readonly AUTH_ORIGIN?: string;
}
