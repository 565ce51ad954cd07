/**
 * What a service manager reads: a unit of systemd, or a property list of launchd. Other users may read both, so neither
 * has a secret. Pure.
 *
 * @module
 */

export interface Service {
  /** Such as `grooveway-expose`. */
  readonly name: string;
  /** The program and its arguments: fixed texts, and for systemd credentials by name and folders. */
  readonly command: readonly Argument[];
  /** Environment variables, none of them secret. */
  readonly environment: Readonly<Record<string, string>>;
  /** More lines for the section `[Service]` of systemd. */
  readonly lines?: readonly string[];
}

export type Argument = string | Credential | StateFolder;

/** An argument that names a file which the service's own user may be unable to read: systemd hands it a copy. */
export interface Credential {
  readonly credential: string;
  readonly path: string;
  /** Before the path in the argument: `@` or nothing. */
  readonly prefix: string;
}

/** A folder in the state folder of a service of the system. */
export interface StateFolder {
  readonly stateFolder: string;
}

/** How long the manager waits before it starts the command again, in seconds. */
const RESTART_PAUSE = 5;

/** A unit for the user who runs `systemctl --user`. */
export function userUnit(service: Service): string {
  return unit(service, { unit: [], service: [], wantedBy: "default.target" });
}

/** A unit of the system with a user of its own, whose key and trust are in the state folder of the service. */
export function systemUnit(service: Service): string {
  const credentials = service.command.filter((part) => typeof part !== "string" && "credential" in part);
  return unit(service, {
    unit: ["Wants=network-online.target", "After=network-online.target"],
    service: [
      "DynamicUser=yes",
      `StateDirectory=${service.name}`,
      "StateDirectoryMode=0700",
      `Environment=XDG_CONFIG_HOME=%S/${service.name} XDG_STATE_HOME=%S/${service.name}`,
      ...credentials.map(({ credential, path }) => `LoadCredential=${credential}:${path.replaceAll("%", "%%")}`),
    ],
    wantedBy: "multi-user.target",
  });
}

interface Lines {
  readonly unit: readonly string[];
  readonly service: readonly string[];
  readonly wantedBy: string;
}

function unit({ name, command, environment, lines: own = [] }: Service, lines: Lines): string {
  const variables = Object.entries(environment).map(([key, value]) => `Environment=${systemdWord(`${key}=${value}`)}`);
  return `# Written by grooveway service install; grooveway service uninstall removes it.
${[
  "[Unit]",
  `Description=${name}`,
  // Restarted however often it ends: the network may be away for days.
  "StartLimitIntervalSec=0",
  ...lines.unit,
  "",
  "[Service]",
  "Type=exec",
  `ExecStart=${command.map((part) => systemdArgument(part, name)).join(" ")}`,
  "Restart=always",
  `RestartSec=${RESTART_PAUSE}`,
  "NoNewPrivileges=yes",
  ...own,
  ...variables,
  ...lines.service,
  "",
  "[Install]",
  `WantedBy=${lines.wantedBy}`,
].join("\n")}
`;
}

function systemdArgument(part: Argument, name: string): string {
  if (typeof part === "string") return systemdWord(part.replaceAll("$", "$$$$"));
  if ("stateFolder" in part) return `"%S/${name}/${part.stateFolder}"`;
  return `"${part.prefix}\${CREDENTIALS_DIRECTORY}/${part.credential}"`;
}

/** Quotes a text without line ends [systemd.syntax(7)]; `%` begins a specifier. */
function systemdWord(text: string): string {
  return `"${text.replace(/[\\"]/g, "\\$&").replaceAll("%", "%%")}"`;
}

/** A launch agent of a user on macOS. */
export function launchAgent({ name, command, environment }: Service, log: string): string {
  const words = command.map(launchdArgument);
  const strings = words.map((word) => `    <string>${xml(word)}</string>`).join("\n");
  const variables = Object.entries(environment)
    .map(([key, value]) => `    <key>${xml(key)}</key><string>${xml(value)}</string>\n`)
    .join("");
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- Written by grooveway service install; grooveway service uninstall removes it. -->
<plist version="1.0">
<dict>
  <key>Label</key><string>${xml(name)}</string>
  <key>ProgramArguments</key>
  <array>
${strings}
  </array>
  <key>EnvironmentVariables</key>
  <dict>
${variables}  </dict>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><true/>
  <key>ThrottleInterval</key><integer>${RESTART_PAUSE}</integer>
  <key>StandardOutPath</key><string>${xml(log)}</string>
  <key>StandardErrorPath</key><string>${xml(log)}</string>
</dict>
</plist>
`;
}

function launchdArgument(part: Argument): string {
  if (typeof part === "string") return part;
  if ("stateFolder" in part) throw new Error("launchd has no state folders");
  return part.prefix + part.path;
}

function xml(text: string): string {
  return text.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
