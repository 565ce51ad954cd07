/**
 * The operator's settings: the variables of wrangler.toml. They do not depend on the platform, so the command reads
 * them as the edge does.
 *
 * @module
 */
import type { AuthSettings } from "../../auth/auth-settings.ts";

export interface Settings extends AuthSettings {
  /** Origin relays that a virtual connection may be passed through to. Empty: none. */
  readonly ORIGIN_RELAYS?: string;
  /** What one principal may do; see `parseRate`. Empty: no limits. */
  readonly RATE?: string;
  /** What may wait for one peer; see `parseQuota`. Empty: 256 MiB, 100,000 messages, half of it for one sender. */
  readonly QUOTA?: string;
  /** Origin relays that this edge stays connected to, to receive what waits there for its peers. */
  readonly LINKS?: string;
  /**
   * How to connect to origin relays, in order: see policy/link-ways.ts. Empty: SSTP on 2492 and 443, then HTTP on 80.
   */
  readonly LINK_WAYS?: string;
  /**
   * Secrets shared with other relays; itself a secret: see `parseLinkSecrets`. Empty: links prove nothing, and stay in
   * private networks or in TLS.
   */
  readonly LINK_SECRETS?: string;
  /** Relays with a secret that may be linked without TLS across the public internet. */
  readonly LINK_PLAIN?: string;
  /** URL of the DNS over HTTPS resolver, with JSON answers, for the names of origin relays. Empty: Cloudflare's. */
  readonly RESOLVER?: string;
  /**
   * Reverse proxies whose client addresses are trusted: see policy/trusted-proxies.ts. Empty: those on the same
   * machine.
   */
  readonly TRUSTED_PROXIES?: string;
  /** Seconds for which a device may keep messages of its identity unacknowledged while another waits. Empty: 120. */
  readonly ACKNOWLEDGE_TIME?: string;
  /** The path of the edge, if the reverse proxy does not remove it. Empty: the root. */
  readonly PREFIX?: string;
  /** What is permitted for development: see policy/dev-setting.ts. Empty in production. */
  readonly DEV?: string;
  /** Identifies the command on this machine. Unset elsewhere. */
  readonly LOCAL_SECRET?: string;
  /** Token that opens /admin. Empty: there is no /admin. */
  readonly ADMIN_TOKEN?: string;
  /** `origin`: a virtual connection that is passed through needs no token, since the origin relay asks for its own. */
  readonly AUTH_ORIGIN?: string;
}
