/** Port forwarding by ssh: straight to the server beside the far side, or by a third machine, a jump host. */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { freePort, type Peer, startPrograms } from "./peers.ts";

const run = promisify(execFile);

const PROGRAMS = { sshd: "/usr/sbin/sshd", ssh: "/usr/bin/ssh", keygen: "/usr/bin/ssh-keygen" } as const;

/** Both names. */
export const SSH = { straight: "ssh -L", jump: "ssh -J" } as const;

/**
 * Starts both, each with servers of its own.
 *
 * @param target port of the far side
 * @param folder for keys and settings
 */
export async function startSshTunnels(target: number, folder: string): Promise<Peer[]> {
  const absent = Object.values(PROGRAMS).find((program) => !existsSync(program));
  if (absent !== undefined) return Object.values(SSH).map((name) => ({ name, skipped: `there is no ${absent}` }));
  mkdirSync(folder, { mode: 0o700 });
  // As root, sshd wants the folder that its package makes at boot.
  if (userInfo().uid === 0) mkdirSync("/run/sshd", { recursive: true });
  for (const key of ["host", "user"]) {
    await run(PROGRAMS.keygen, ["-q", "-t", "ed25519", "-N", "", "-f", join(folder, key)]);
  }
  const [straight, jump, beyond] = [await freePort(), await freePort(), await freePort()];
  const client = join(folder, "client");
  writeFileSync(client, clientSettings(folder, { straight, jump, beyond }));
  return [
    await startTunnel({
      name: SSH.straight,
      folder,
      client,
      target,
      servers: { straight },
      options: [],
      to: "straight",
    }),
    await startTunnel({
      name: SSH.jump,
      folder,
      client,
      target,
      servers: { jump, beyond },
      options: ["-J", "jump"],
      to: "beyond",
    }),
  ];
}

interface Tunnel {
  readonly name: string;
  readonly folder: string;
  /** The client's settings. */
  readonly client: string;
  readonly target: number;
  /** Ports of its servers. */
  readonly servers: Readonly<Record<string, number>>;
  readonly options: readonly string[];
  /** The server beside the far side. */
  readonly to: string;
}

async function startTunnel({ name, folder, client, target, servers, options, to }: Tunnel): Promise<Peer> {
  const entrance = await freePort();
  const forward = `127.0.0.1:${entrance}:127.0.0.1:${target}`;
  return startPrograms(name, entrance, [
    ...Object.entries(servers).map(([server, port]) => {
      const settings = join(folder, `${server}.conf`);
      writeFileSync(settings, serverSettings(folder, port));
      return { name: `sshd ${server}`, command: [PROGRAMS.sshd, "-D", "-f", settings], port };
    }),
    { name: "ssh", command: [PROGRAMS.ssh, "-F", client, ...options, "-N", "-L", forward, to], port: entrance },
  ]);
}

function serverSettings(folder: string, port: number): string {
  return `ListenAddress 127.0.0.1
Port ${port}
HostKey ${join(folder, "host")}
AuthorizedKeysFile ${join(folder, "user.pub")}
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
PermitRootLogin yes
LogLevel QUIET
`;
}

function clientSettings(folder: string, servers: Readonly<Record<string, number>>): string {
  const hosts = Object.entries(servers).map(([name, port]) => `Host ${name}\n  HostName 127.0.0.1\n  Port ${port}\n`);
  return `${hosts.join("")}Host *
  IdentityFile ${join(folder, "user")}
  IdentitiesOnly yes
  UserKnownHostsFile ${join(folder, "known")}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking accept-new
  ExitOnForwardFailure yes
  LogLevel QUIET
`;
}
