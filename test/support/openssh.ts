/** An OpenSSH server and its clients, with keys and settings of their own. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";

/** Where Debian has the server. */
export const SSHD = "/usr/sbin/sshd";

export interface OpenSsh {
  /** The command line of the server. It prints "Server listening" to standard error. */
  readonly server: readonly [string, ...string[]];
  /** The file for option -F of ssh and scp, by which `office` is the server. */
  readonly settings: string;
}

/** Writes keys and settings into a folder, and logs in as the user of this process. */
export function openSsh(folder: string, ports: { readonly server: number; readonly client: number }): OpenSsh {
  const [host, user, known, config, settings] = ["host", "user", "known", "sshd_config", "ssh_config"].map((name) =>
    join(folder, name),
  ) as [string, string, string, string, string];
  for (const key of [host, user]) {
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], { stdio: "pipe" });
  }
  writeFileSync(known, `office ${readFileSync(`${host}.pub`, "utf8")}`);
  const lines = [
    "ListenAddress 127.0.0.1",
    `Port ${ports.server}`,
    `HostKey ${host}`,
    `AuthorizedKeysFile ${user}.pub`,
    "AuthenticationMethods publickey",
    // The folder belongs to a test, not to a home.
    "StrictModes no",
    "UsePAM no",
    "PidFile none",
    "Subsystem sftp internal-sftp",
  ];
  writeFileSync(config, `${lines.join("\n")}\n`);
  writeFileSync(
    settings,
    `Host office
  HostName 127.0.0.1
  Port ${ports.client}
  HostKeyAlias office
  User ${userInfo().username}
  IdentityFile ${user}
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile ${known}
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  BatchMode yes
`,
  );
  // The server of root confines itself there; at a boot of the machine its service makes the folder.
  if (process.getuid?.() === 0) mkdirSync("/run/sshd", { recursive: true, mode: 0o755 });
  return { server: [SSHD, "-D", "-e", "-f", config], settings };
}
