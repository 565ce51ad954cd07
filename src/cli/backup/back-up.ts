/**
 * Copies the state of an edge into one file while the edge runs. Each object's database is copied in one transaction, so
 * the copy has all that the object had acknowledged before the backup began. Connections are not copied: they end with
 * the edge.
 *
 * Objects change while others are copied. The two that tell of others are therefore copied before and after, and what
 * either copy has is kept: the Directory, which lists the mailboxes, and the alarms of each class. So no mailbox that was
 * copied is missing from the list; one that has gone meanwhile may be listed, which is harmless.
 *
 * @module
 */
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { CommandError } from "../command-error.ts";
import { wordsOf } from "../files/path-problem.ts";
import { BackupWriter } from "./backup-file.ts";

/** Classes of objects whose state outlives connections. */
const KEPT = ["Mailbox", "PlainStream", "Inboxes", "Meter", "Collector"] as const;
const DIRECTORY = "Directory";

const ALARMS = "metadata.sqlite";

/** The rows that a list keeps from its earlier copy. */
const LISTED = {
  [DIRECTORY]: "INSERT OR IGNORE INTO _cf_KV SELECT * FROM earlier._cf_KV",
  [ALARMS]: "INSERT OR IGNORE INTO _cf_ALARM SELECT * FROM earlier._cf_ALARM",
} as const;

/** What a backup has. */
export interface BackedUp {
  readonly mailboxes: number;
  readonly bytes: number;
}

/**
 * @param state the state folder of an edge, running or not
 * @param file which must not exist
 * @throws CommandError CannotRead, CannotWrite
 */
export function backUp(state: string, file: string): BackedUp {
  const objects = join(state, "do");
  if (statSync(objects, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new CommandError("CannotRead", `${state} is not the state folder of an edge: name the folder of its --state`);
  }
  if (statSync(file, { throwIfNoEntry: false }) !== undefined) {
    throw new CommandError("CannotWrite", `${file} exists: choose another name, or remove it first`);
  }
  const [writer, folder] = begin(file);
  try {
    const copied = copyAll(objects, folder, writer);
    writer.finish();
    return copied;
  } catch (error) {
    writer.abandon();
    throw new CommandError("CannotWrite", `the backup failed: ${wordsOf(error)}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The writer, and a folder beside its file for copies. */
function begin(file: string): [BackupWriter, string] {
  try {
    const folder = mkdtempSync(join(dirname(file), ".grooveway-backup-"));
    return [new BackupWriter(file, Date.now()), folder];
  } catch (error) {
    throw new CommandError("CannotWrite", `cannot write ${file}: ${wordsOf(error)}`);
  }
}

function copyAll(objects: string, folder: string, writer: BackupWriter): BackedUp {
  const classes = readdirSync(objects, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
  const named = (suffix: string) => classes.filter((name) => name.endsWith(`-${suffix}`));
  const kept = KEPT.flatMap(named);
  const directories = named(DIRECTORY).flatMap((name) => databasesIn(objects, name));
  const alarms = [...kept, ...named(DIRECTORY)].map((name) => join(name, ALARMS));
  const lists = [
    ...directories.map((path) => [path, DIRECTORY] as const),
    ...alarms.map((path) => [path, ALARMS] as const),
  ];
  const earlier = lists.map(([path], at) => copy(join(objects, path), join(folder, `earlier-${at}`)));
  let [mailboxes, bytes] = [0, 0];
  const add = (path: string, from: string) => {
    bytes += writer.add(path, from);
    rmSync(from);
  };
  for (const name of kept) {
    for (const path of databasesIn(objects, name)) {
      const copied = copy(join(objects, path), join(folder, "object"));
      if (copied === undefined) continue;
      add(path, copied);
      if (name.endsWith("-Mailbox")) mailboxes += 1;
    }
  }
  for (const [at, [path, kind]] of lists.entries()) {
    const copied = copy(join(objects, path), join(folder, "list"));
    if (copied === undefined) continue;
    merge(copied, earlier[at], LISTED[kind]);
    add(path, copied);
  }
  return { mailboxes, bytes };
}

/** The databases of the objects of a class. */
function databasesIn(objects: string, name: string): string[] {
  return readdirSync(join(objects, name))
    .filter((file) => /^[0-9a-f]{64}\.sqlite$/.test(file))
    .map((file) => join(name, file));
}

/** Copies a database in one transaction. Undefined if it has gone, or was never written. */
function copy(from: string, to: string): string | undefined {
  if (statSync(from, { throwIfNoEntry: false }) === undefined) return undefined;
  const database = new DatabaseSync(from, { readOnly: true });
  try {
    database.exec("PRAGMA busy_timeout = 10000");
    database.prepare("VACUUM INTO ?").run(to);
    return to;
  } finally {
    database.close();
  }
}

function merge(into: string, earlier: string | undefined, statement: string): void {
  if (earlier === undefined) return;
  const database = new DatabaseSync(into);
  try {
    database.prepare("ATTACH ? AS earlier").run(earlier);
    database.exec(statement);
  } finally {
    database.close();
  }
}
