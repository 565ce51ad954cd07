/** The programs that are used through streams, with the Debian packages that have them. */
import { existsSync, readdirSync } from "node:fs";
import { NEEDS, type Need, whyImpossible } from "../networks/needs.ts";
import { SSHD } from "../support/openssh.ts";

/** Debian has a folder for each major version of PostgreSQL. */
const POSTGRES = "/usr/lib/postgresql";

/** Where the newest version of PostgreSQL has its programs. */
function postgresFolder(): string {
  const versions = existsSync(POSTGRES) ? readdirSync(POSTGRES).map(Number).filter(Number.isInteger) : [];
  return `${POSTGRES}/${Math.max(0, ...versions)}/bin`;
}

export const PROGRAMS = {
  sshd: { program: SSHD, package: "openssh-server" },
  ssh: { program: "/usr/bin/ssh", package: "openssh-client" },
  rsync: { program: "/usr/bin/rsync", package: "rsync" },
  postgres: { program: `${postgresFolder()}/postgres`, package: "postgresql" },
  git: { program: "/usr/bin/git", package: "git" },
  curl: { program: "/usr/bin/curl", package: "curl" },
  h2load: { program: "/usr/bin/h2load", package: "nghttp2-client" },
  netcat: { program: "/usr/bin/nc.openbsd", package: "netcat-openbsd" },
  nginx: NEEDS.nginx,
  socat: NEEDS.socat,
} as const satisfies Readonly<Record<string, Need>>;

/** Whether the programs were asked for: they move some hundred MiB. */
export const IS_ASKED_FOR = (process.env.GROOVEWAY_PROGRAMS ?? "") !== "";

/** Why programs cannot be used here, or are not to be used now; false if neither. */
export function whyNot(...needs: readonly Need[]): string | false {
  return IS_ASKED_FOR ? whyImpossible(needs) : "SKIPPED: set GROOVEWAY_PROGRAMS=1";
}

/** Whether a program is installed. */
export function isThere({ program }: Need): boolean {
  return existsSync(program);
}
