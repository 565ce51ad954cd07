/** `grooveway service`: lets the system run `expose`, `connect` or `edge`. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import { visible } from "../../lib/printable.ts";
import { CommandError } from "../command-error.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { codeOf } from "../files/file-system.ts";
import { type Command, parse, unexpected, usage } from "../parse-arguments.ts";
import { type EdgeService, edgeService } from "../service/edge-service.ts";
import { oneLine, SERVED, type Served, serviceArguments } from "../service/service-arguments.ts";
import { launchAgent, type Service, systemUnit, userUnit } from "../service/service-files.ts";
import { tell } from "../streams/stream-device.ts";

export const serviceCommand: Command = {
  help: `Usage: grooveway service install [--system] [--name NAME] [--print] expose|connect|edge ARGUMENTS...
       grooveway service uninstall [--system] [--name NAME]

Lets systemd, or launchd on macOS, run grooveway expose, connect or edge with these arguments from now on and after each
restart of the machine. The service is this user's, and has the user's profiles and keys. It has no secrets in its command
line or environment: tokens come from a profile of grooveway login, or from --token @FILE.

  --system           a service of the system, run by a user of its own (DynamicUser) that has a key of its own in
                     /var/lib, and an edge its mailboxes; needs root, and for expose and connect --edge and --as. Files
                     that options name are handed to it (LoadCredential)
  --name NAME        name of the service after grooveway-, to have several; default that of the command
  --print            print the file that describes the service, and change nothing

Example: grooveway service install expose --as office/desk ssh=127.0.0.1:22`,

  async run(args) {
    const [action, ...rest] = args;
    if (action === "install") return install(rest);
    if (action === "uninstall") return uninstall(rest);
    throw usage("service", "say install or uninstall");
  },
};

const OPTIONS = {
  system: { type: "boolean", default: false },
  name: { type: "string" },
} as const;

function install(args: readonly string[]): number {
  const at = args.findIndex((word, index) => isServed(word) && args[index - 1] !== "--name");
  const command = args[at];
  if (command === undefined || !isServed(command)) throw usage("service", "name the command: expose, connect or edge");
  const { values, positionals } = parse("service", args.slice(0, at), {
    ...OPTIONS,
    print: { type: "boolean", default: false },
  });
  if (positionals.length > 0) throw unexpected("service", positionals[0]);
  const { system } = values;
  const place = placeOf(values.name ?? command, system);
  const {
    parts,
    lines = [],
    copied = [],
  }: Partial<EdgeService> & Pick<EdgeService, "parts"> = command === "edge"
    ? edgeService(args.slice(at + 1), system)
    : { parts: serviceArguments(command, args.slice(at + 1), system) };
  for (const part of parts) {
    if (typeof part === "string") oneLine(part);
    else if ("path" in part) oneLine(part.path);
  }
  const service: Service = {
    name: place.name,
    command: [process.execPath, realpathSync(process.argv[1] ?? ""), command, ...parts],
    environment: system ? {} : ownFolders(),
    lines,
  };
  const text = place.isLaunchd ? launchAgent(service, place.log) : system ? systemUnit(service) : userUnit(service);
  if (values.print) {
    console.log(text.trimEnd());
    return EXIT_CODES.Done.status;
  }
  write(place.path, text);
  const [isStarted, isLasting] = place.isLaunchd ? [bootstrap(place), true] : [enable(place), system || linger()];
  console.log(visible(`${place.name} is installed: ${place.path}`));
  for (const path of copied) tell(visible(`${path}: after a change run systemctl restart ${place.name}`));
  return isStarted && isLasting ? EXIT_CODES.Done.status : EXIT_CODES.Failed.status;
}

function uninstall(args: readonly string[]): number {
  const { values, positionals } = parse("service", args, OPTIONS);
  if (positionals.length > 0) throw unexpected("service", positionals[0]);
  const names = values.name === undefined ? SERVED : [values.name];
  const places = names.map((name) => placeOf(name, values.system)).filter(({ path }) => existsSync(path));
  if (places.length === 0)
    throw usage("service", `no service is installed as grooveway-${names.join(" or grooveway-")}`);
  if (places.length > 1)
    throw usage("service", `several services are installed: give --name ${names.join(" or --name ")}`);
  for (const place of places) {
    if (place.isLaunchd) attempt("launchctl", ["bootout", domain(), place.path]);
    else attempt("systemctl", [...place.scope, "disable", "--now", `${place.name}.service`]);
    change(place.path, () => rmSync(place.path));
    if (!place.isLaunchd) attempt("systemctl", [...place.scope, "daemon-reload"]);
    console.log(visible(`${place.name} is removed: ${place.path}`));
  }
  return EXIT_CODES.Done.status;
}

function isServed(word: string): word is Served {
  return SERVED.some((served) => served === word);
}

interface Place {
  readonly name: string;
  readonly path: string;
  readonly isLaunchd: boolean;
  /** Whose services `systemctl` is to manage. */
  readonly scope: readonly string[];
  readonly log: string;
}

function placeOf(given: string, isSystem: boolean): Place {
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(given)) {
    throw usage("service", `--name ${visible(given)} is not a name of up to 64 letters, digits, - and _`);
  }
  const name = `grooveway-${given}`;
  const home = process.env.HOME ?? "";
  if (process.platform === "darwin") {
    if (isSystem) throw usage("service", "--system needs systemd: leave it out");
    const path = join(home, "Library", "LaunchAgents", `${name}.plist`);
    return { name, path, isLaunchd: true, scope: [], log: join(home, "Library", "Logs", `${name}.log`) };
  }
  if (process.platform !== "linux") throw usage("service", `there is no systemd or launchd on ${process.platform}`);
  const folder = isSystem ? "/etc/systemd/system" : join(configFolder(home), "systemd", "user");
  const scope = isSystem ? ["--system"] : ["--user"];
  return { name, path: join(folder, `${name}.service`), isLaunchd: false, scope, log: "" };
}

function configFolder(home: string): string {
  const { XDG_CONFIG_HOME: folder = "" } = process.env;
  if (isAbsolute(folder)) return folder;
  if (isAbsolute(home)) return join(home, ".config");
  throw new CommandError("NoConfigFolder", "neither HOME nor XDG_CONFIG_HOME is set to an absolute path: set HOME");
}

/** Where the user's profiles and keys are, if not in the usual place. */
function ownFolders(): Readonly<Record<string, string>> {
  const { XDG_CONFIG_HOME: folder = "" } = process.env;
  return isAbsolute(folder) ? { XDG_CONFIG_HOME: oneLine(folder) } : {};
}

function write(path: string, text: string): void {
  change(path, () => {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text, { mode: 0o644 });
  });
}

/** @throws CommandError CannotWrite */
function change(path: string, act: () => void): void {
  try {
    act();
  } catch (error) {
    const code = codeOf(error);
    if (code === undefined) throw error;
    throw new CommandError("CannotWrite", `cannot write ${visible(path)} (${code}): run it as the owner of the folder`);
  }
}

function enable({ name, scope }: Place): boolean {
  const unit = `${name}.service`;
  // A service that runs already gets its new arguments.
  return [["daemon-reload"], ["enable", unit], ["restart", unit]].every((words) =>
    attempt("systemctl", [...scope, ...words]),
  );
}

/** Without it, the services of a user end when the user logs out, and begin at the next login. */
function linger(): boolean {
  return attempt("loginctl", ["enable-linger", userInfo().username]);
}

function bootstrap({ path }: Place): boolean {
  try {
    execFileSync("launchctl", ["bootout", domain(), path], { stdio: "ignore" });
  } catch {
    // It was not running before.
  }
  return attempt("launchctl", ["bootstrap", domain(), path]);
}

function domain(): string {
  return `gui/${process.getuid?.() ?? ""}`;
}

/** Runs a program of the system, and says if it fails. */
function attempt(program: string, args: readonly string[]): boolean {
  try {
    execFileSync(program, args, { stdio: ["ignore", "ignore", "pipe"], encoding: "utf8" });
    return true;
  } catch (error) {
    const { stderr, code } = error as { readonly stderr?: string; readonly code?: string };
    const [why = ""] = (stderr ?? "").trim().split("\n");
    tell(`could not run ${program} ${args.join(" ")} (${why || code || "it failed"}): run it yourself`);
    return false;
  }
}
