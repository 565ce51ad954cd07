/**
 * The operator's settings: the variables of wrangler.toml, and the secrets beside them. They do not depend on the
 * platform, so the command reads them as the edge does.
 *
 * @module
 */
import type { AuthSettings } from "../../auth/auth-settings.ts";

export interface Settings extends AuthSettings {
  /** Origin relays that a virtual connection may be passed through to. Empty: none. */
  readonly ORIGIN_RELAYS?: string;
  /** What one principal may do; see `readRate`. Empty: no limits. */
  readonly RATE?: string;
  /**
   * What may wait for one peer, and of one sender; see `readQuota`. Empty: 256 MiB, 100,000 messages, half of it for one sender,
   * who may have 4 GiB waiting in all mailboxes. */
  readonly QUOTA?: string;
  /** Origin relays that this edge stays connected to, to receive what waits there for its peers. */
  readonly LINKS?: string;
  /**
   * How to connect to origin relays, in order: see policy/link-ways.ts. Empty: SSTP on 2492 and 443, then HTTP on 80.
   */
  readonly LINK_WAYS?: string;
  /**
   * Secrets shared with other relays; itself a secret: see `readLinkSecrets`. Empty: links prove nothing, and stay in
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
  /** Seconds for which a mailbox that is read over HTTP keeps messages after they were acknowledged. Empty: 86400. */
  readonly KEEP_TIME?: string;
  /** The path of the edge, if the reverse proxy does not remove it. Empty: the root. */
  readonly PREFIX?: string;
  /** What is permitted for development: see policy/dev-setting.ts. Empty in production. */
  readonly DEV?: string;
  /** TCP destinations that the edge dials for devices; see `readStreamOrigins`. Empty: none. */
  readonly STREAM_ORIGINS?: string;
  /** Seconds for which such a connection outlives that of its device. Empty: 600. */
  readonly STREAM_RESUME?: string;
  /** Token that opens /admin. Empty: there is no /admin. */
  readonly ADMIN_TOKEN?: string;
  /** `origin`: a virtual connection that is passed through needs no token, since the origin relay asks for its own. */
  readonly AUTH_ORIGIN?: string;
}

/** Settings before they are checked. An undefined one is unset. */
export type GivenSettings = { readonly [Name in keyof Settings]: Settings[Name] | undefined };

/** How a setting is given. */
interface SettingRule {
  /** The option of `grooveway edge`, if there is one. */
  readonly option?: string;
  /** Whether it is a secret, and so no variable of wrangler.toml. */
  readonly secret?: true;
}

/** Every setting. */
export const SETTINGS = {
  RELAY_NAME: { option: "name" },
  KEYS: { option: "keys", secret: true },
  JWKS_URL: { option: "jwks-url" },
  REVOKED: { option: "revoked" },
  REVOKED_URL: { option: "revoked-url" },
  AUTH_ORIGIN: { option: "auth-origin" },
  ADMIN_TOKEN: { option: "admin-token", secret: true },
  ORIGIN_RELAYS: { option: "relay-allow" },
  RESOLVER: { option: "resolver" },
  LINKS: { option: "link" },
  LINK_WAYS: { option: "link-ways" },
  LINK_SECRETS: { option: "link-secret", secret: true },
  LINK_PLAIN: { option: "link-plain" },
  STREAM_ORIGINS: { option: "stream-allow" },
  STREAM_RESUME: { option: "stream-resume" },
  RATE: { option: "rate" },
  QUOTA: { option: "quota" },
  ACKNOWLEDGE_TIME: { option: "acknowledge-time" },
  KEEP_TIME: { option: "keep-time" },
  TRUSTED_PROXIES: { option: "trusted-proxy" },
  PREFIX: { option: "prefix" },
  DEV: { option: "dev" },
} as const satisfies Readonly<Record<keyof Settings, SettingRule>>;
