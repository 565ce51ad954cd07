/** `grooveway inbox`: URLs at which webhooks wait for a machine that may be asleep. */
import { randomBytes } from "node:crypto";
import { jsonLine, printable, visible } from "../../lib/printable.ts";
import { isInboxName, parseAddress } from "../../sstp/index.ts";
import { CommandError } from "../command-error.ts";
import { secondsIn } from "../duration.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { type AskInboxes, type InboxClient, inboxClient } from "../http/inbox-client.ts";
import { size } from "../output.ts";
import { type Command, parse, readText, unexpected, usage } from "../parse-arguments.ts";
import { PROFILE_OPTION, withProfile } from "../profiles/profile-options.ts";
import { PROXY_OPTIONS } from "../proxy-options.ts";

export const inboxCommand: Command = {
  help: `Usage: grooveway inbox create ADDRESS [NAME] --verify KIND [options]
       grooveway inbox ls ADDRESS [--failed]
       grooveway inbox rotate ADDRESS NAME [--secret TEXT|@FILE | --url]
       grooveway inbox rm ADDRESS NAME
       grooveway inbox rm ADDRESS --failed NUMBER...|--all
       grooveway inbox replay ADDRESS NUMBER...|--all

Gives an address URLs for webhooks. What is posted there is checked, and waits in the mailbox of the address until
grooveway recv --forward passes it to a local server.

  create         make an inbox, and print its URL. It is shown this once: anybody who knows it may post
  ls             list the inboxes of an address; with --failed the requests that were set aside, each with its number
  rotate         replace the provider's secret; the former one is accepted for --keep. With --url, replace the URL: the
                 former one ends at once
  rm             remove an inbox; with --failed, requests that were set aside
  replay         put requests that were set aside back into the mailbox

  --verify KIND  how requests are verified: github, stripe, slack, standard (Standard Webhooks), none, or
                 hmac:HEADER,ALGORITHM,hex|base64[,PREFIX[,DELIVERY]] for an HMAC of the body in a header, by sha1,
                 sha256, sha384 or sha512; DELIVERY is the header with the id of the delivery
  --secret TEXT|@FILE
                 the secret that the provider signs with. Without it, one is made and printed for github and hmac; with
                 the others the provider makes it, and rotate sets it. Other users of this machine can see the command
                 line, so prefer a file
  --keep TIME    how long the former secret is accepted: 0s, 12h, up to 30d; default 24h
  --max-size N   bytes of the longest body; default 1048576
  --rate N       requests a second, sixty times as many at once; default 10
  --answer TEXT  what the inbox answers when it has stored a request; JSON if it is an object or a list of JSON
  --answer-status N
                 the status of that answer, 200 to 299; default 202, or 200 with --answer
  --profile NAME take edge and token from this profile of grooveway login; default GROOVEWAY_PROFILE, or the profile
                 default. Its token goes to its own edges only
  --edge URL     the edge; default that of the profile, or http://127.0.0.1:8787
  --token TOKEN|@FILE
                 a token that may receive for the address; default the environment variable GROOVEWAY_TOKEN
  --admin        act as an operator, with the admin token or a token with the scope admin
  --proxy URL|@FILE, --proxy-credentials FILE
                 connect through a proxy, as send and recv do
  --ca FILE      certificate authorities to trust in addition to the system's (PEM)
  --json         print JSON

Example: grooveway inbox create bob/laptop --verify github --edge https://edge.example.com --token @bob.token`,

  async run(args) {
    const { values, positionals } = parse("inbox", args, {
      ...PROFILE_OPTION,
      ...PROXY_OPTIONS,
      edge: { type: "string" },
      ca: { type: "string" },
      token: { type: "string" },
      admin: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      verify: { type: "string" },
      secret: { type: "string" },
      keep: { type: "string", default: "24h" },
      url: { type: "boolean", default: false },
      "max-size": { type: "string" },
      rate: { type: "string" },
      answer: { type: "string" },
      "answer-status": { type: "string" },
      failed: { type: "boolean", default: false },
      all: { type: "boolean", default: false },
    });
    const [action, address, ...more] = positionals;
    const act = action !== undefined && Object.hasOwn(ACTIONS, action) ? ACTIONS[action] : undefined;
    if (act === undefined) {
      const what = action === undefined ? "nothing is asked for" : `${printable(action)} is unknown`;
      throw usage("inbox", `${what}: write ${Object.keys(ACTIONS).join(", ")} after inbox`);
    }
    if (address === undefined) throw usage("inbox", `${action} needs an ADDRESS`);
    const parsed = parseAddress(address);
    if (!parsed.ok) throw usage("inbox", `${printable(address)} is not an address: ${parsed.problems}`);
    const inherited = (values.admin ? process.env.GROOVEWAY_ADMIN_TOKEN : undefined) ?? process.env.GROOVEWAY_TOKEN;
    const completed = withProfile(values, { inherited, most: 1 });
    const client = inboxClient("inbox", completed, values, values.admin ? "/admin/inboxes/" : "/inboxes/");
    await act({ client, address, path: encodeURIComponent(address), more, values });
    return EXIT_CODES.Done.status;
  },
};

interface Values {
  readonly json: boolean;
  readonly verify?: string | undefined;
  readonly secret?: string | undefined;
  readonly keep: string;
  readonly url: boolean;
  readonly "max-size"?: string | undefined;
  readonly rate?: string | undefined;
  readonly answer?: string | undefined;
  readonly "answer-status"?: string | undefined;
  readonly failed: boolean;
  readonly all: boolean;
}

interface Action {
  readonly client: InboxClient;
  readonly address: string;
  /** The address, as in a path. */
  readonly path: string;
  /** What follows it on the command line. */
  readonly more: readonly string[];
  readonly values: Values;
}

const ACTIONS: Readonly<Record<string, (action: Action) => Promise<void>>> = {
  create,
  ls: (action) => (action.values.failed ? listFailed(action) : list(action)),
  rotate,
  rm: (action) => (action.values.failed ? removeFailed(action) : remove(action)),
  replay,
};

/** Bytes of a secret that is made here: the length of the hash that it is used with. */
const SECRET_OCTETS = 32;

async function create({ client, address, path, more, values }: Action): Promise<void> {
  const [name, ...others] = more;
  if (others.length > 0) throw unexpected("inbox", others[0]);
  const { verify } = values;
  if (verify === undefined) throw usage("inbox", "create needs --verify KIND");
  const secret = values.secret === undefined ? madeSecret(verify) : secretOf(values.secret);
  const made = (await client.ask({
    method: "POST",
    path,
    body: {
      name,
      verify,
      secret,
      largest: numberOf("max-size", values["max-size"]),
      rate: numberOf("rate", values.rate),
      answer: answerOf(values),
    },
    expects: isChange,
  })) as Change;
  const url = urlOf(client, made);
  const shown = values.secret === undefined ? secret : undefined;
  if (values.json) {
    console.log(jsonLine({ ...made.inbox, url, ...(shown !== undefined && { secret: shown }) }));
    return;
  }
  console.log(
    `created the inbox ${visible(made.inbox.name)} of ${visible(address)}; its URL, shown this once:\n${url}`,
  );
  if (shown !== undefined) console.log(`its secret, to be given to the provider, shown this once:\n${shown}`);
  else if (made.inbox.secrets === 0 && verify !== "none") {
    const cure = `grooveway inbox rotate ${visible(address)} ${visible(made.inbox.name)} --secret @FILE`;
    console.log(`it takes nothing until it has the provider's secret: ${cure}`);
  }
}

async function list({ client, path, more, values }: Action): Promise<void> {
  if (more.length > 0) throw unexpected("inbox", more[0]);
  const { inboxes } = (await client.ask({ path, expects: isList })) as { readonly inboxes: readonly Inbox[] };
  for (const inbox of inboxes) console.log(values.json ? jsonLine(inbox) : visible(line(inbox)));
}

async function rotate({ client, address, path, more, values }: Action): Promise<void> {
  const name = nameIn("rotate", more);
  if (values.url) {
    if (values.secret !== undefined) throw usage("inbox", "--url and --secret exclude each other: give one");
    const changed = (await client.ask({ method: "POST", path: `${path}/${name}/url`, expects: isChange })) as Change;
    const url = urlOf(client, changed);
    if (values.json) console.log(jsonLine({ ...changed.inbox, url }));
    else console.log(`the inbox ${name} of ${visible(address)} has another URL, shown this once:\n${url}`);
    return;
  }
  const keep = secondsIn(values.keep);
  if (keep === undefined) throw usage("inbox", `--keep ${values.keep} is not a time such as 0s, 12h or 7d`);
  const verify = values.secret === undefined ? await verifyOf(client.ask, path, name) : "";
  const secret = values.secret === undefined ? madeSecret(verify) : secretOf(values.secret);
  if (secret === undefined) {
    throw usage("inbox", `the provider makes the secret of ${verify}: give it with --secret @FILE`);
  }
  const body = { secret, keep };
  const question = { method: "POST", path: `${path}/${name}/secret`, body, expects: isChange };
  const { inbox } = (await client.ask(question)) as Change;
  const shown = values.secret === undefined ? { secret } : {};
  if (values.json) console.log(jsonLine({ ...inbox, ...shown }));
  else {
    const former = keep === 0 ? "the former one ends at once" : `the former one is accepted for ${values.keep}`;
    console.log(`the inbox ${name} of ${visible(address)} has another secret; ${former}`);
    if (values.secret === undefined) console.log(`it is, shown this once:\n${secret}`);
  }
}

async function verifyOf(ask: AskInboxes, path: string, name: string): Promise<string> {
  const { inboxes } = (await ask({ path, expects: isList })) as { readonly inboxes: readonly Inbox[] };
  const verify = inboxes.find((inbox) => inbox.name === name)?.verify;
  if (verify === undefined) throw usage("inbox", `there is no inbox ${name}: see grooveway inbox ls`);
  return verify;
}

async function remove({ client, address, path, more, values }: Action): Promise<void> {
  if (values.all)
    throw usage("inbox", "--all is for requests that were set aside: write --failed too, or name an inbox");
  const name = nameIn("rm", more);
  await client.ask({ method: "DELETE", path: `${path}/${name}`, expects: isRemoved });
  if (values.json) console.log(jsonLine({ removed: name }));
  else console.log(`removed the inbox ${name} of ${visible(address)}`);
}

async function listFailed({ client, path, more, values }: Action): Promise<void> {
  if (more.length > 0) throw unexpected("inbox", more[0]);
  for (let after = 0; ; ) {
    const asked = { path: `${path}/failed?after=${after}`, expects: isFailedList };
    const { failed } = (await client.ask(asked)) as { readonly failed: readonly Failed[] };
    const last = failed.at(-1);
    if (last === undefined) return;
    // A proxy that ignores the query would give the same page without end.
    if (last.number <= after)
      throw new CommandError("NotAnEdge", "the same requests are listed again: look for a proxy");
    for (const one of failed) console.log(values.json ? jsonLine(one) : visible(failedLine(one)));
    after = last.number;
  }
}

async function removeFailed({ client, path, more, values }: Action): Promise<void> {
  const numbers = numbersIn("rm --failed", more, values.all);
  const question = { method: "DELETE", path: `${path}/failed`, body: { numbers }, expects: isRemovedCount };
  const { removed } = (await client.ask(question)) as { readonly removed: number };
  if (values.json) console.log(jsonLine({ removed }));
  else console.log(`removed ${removed} of the requests that were set aside`);
}

async function replay({ client, path, more, values }: Action): Promise<void> {
  const numbers = numbersIn("replay", more, values.all);
  let replayed = 0;
  // The edge puts back some at a time.
  for (;;) {
    const question = { method: "POST", path: `${path}/failed/replay`, body: { numbers }, expects: isReplayed };
    const answer = (await client.ask(question)) as { readonly replayed: number; readonly refused?: string };
    replayed += answer.replayed;
    if (answer.refused !== undefined) {
      throw new CommandError(
        "Refused",
        `${replayed} are put back, and no more fit: try again later [${answer.refused}]`,
      );
    }
    if (answer.replayed === 0) break;
  }
  if (values.json) console.log(jsonLine({ replayed }));
  else console.log(`put back ${replayed} of the requests that were set aside`);
}

/** An inbox, as the edge describes it. */
interface Inbox {
  readonly name: string;
  readonly verify: string;
  readonly last: string;
  readonly secrets: number;
  readonly largest: number;
  readonly rate: number;
  readonly stored: number;
  readonly latest?: number;
  readonly refused: number;
  readonly refusal?: string;
}

interface Change {
  readonly inbox: Inbox;
  readonly path?: string;
}

/** A request that was set aside. */
interface Failed {
  readonly number: number;
  readonly inbox: string;
  readonly target: string;
  readonly reason: string;
  readonly detail: string;
  readonly tries: number;
  readonly at: number;
  readonly octets: number;
}

function line({ name, verify, last, stored, latest, refused, refusal }: Inbox): string {
  const when = latest === undefined ? "" : `, the last ${timeText(latest)}`;
  const why = refusal === undefined ? "" : `, the last for ${refusal}`;
  const refusals = refused === 0 ? "" : `; ${refused} refused${why}`;
  return `${name}  ${verify}, URL ...${last}, ${stored} stored${when}${refusals}`;
}

function failedLine({ number, inbox, target, reason, detail, tries, at, octets }: Failed): string {
  const what = `${target === "" ? "a message" : target}, ${size(octets)}`;
  return `${number}  ${inbox}  ${what}: ${detail} after ${tries} tries, ${timeText(at)} [${reason}]`;
}

/** The largest time that a Date can hold, in milliseconds. */
const LAST_TIME = 8.64e15;

function timeText(time: number): string {
  return Math.abs(time) <= LAST_TIME ? new Date(time).toISOString().replace(/\.[0-9]*Z$/, "Z") : "–";
}

function nameIn(action: string, more: readonly string[]): string {
  const [name, ...others] = more;
  if (name === undefined) throw usage("inbox", `${action} needs the NAME of an inbox: see grooveway inbox ls`);
  if (others.length > 0) throw unexpected("inbox", others[0]);
  if (isInboxName(name)) return name;
  throw usage("inbox", `${printable(name)} is not the name of an inbox: see grooveway inbox ls`);
}

/** The numbers given; undefined for all. */
function numbersIn(action: string, more: readonly string[], all: boolean): number[] | undefined {
  if (all && more.length > 0) throw usage("inbox", "--all and numbers exclude each other: give one");
  if (!all && more.length === 0) throw usage("inbox", `${action} needs numbers of inbox ls --failed, or --all`);
  const wrong = more.find((text) => !/^[1-9][0-9]{0,14}$/.test(text));
  if (wrong !== undefined) throw usage("inbox", `${printable(wrong)} is not a number of inbox ls --failed`);
  return all ? undefined : more.map(Number);
}

function numberOf(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^[1-9][0-9]{0,9}$/.test(text)) return Number(text);
  throw usage("inbox", `--${option} ${text} is not a number`);
}

/** A secret where this side chooses it. */
function madeSecret(verify: string): string | undefined {
  return verify === "github" || verify.startsWith("hmac") ? randomBytes(SECRET_OCTETS).toString("hex") : undefined;
}

function secretOf(text: string): string {
  return text.startsWith("@") ? readText(text.slice(1)).trim() : text;
}

function answerOf({ answer, "answer-status": status }: Values): object | undefined {
  if (answer === undefined && status === undefined) return undefined;
  const body = answer ?? "";
  const type = isJson(body) ? "application/json" : "text/plain";
  return { status: numberOf("answer-status", status) ?? 200, type, body };
}

function isJson(text: string): boolean {
  try {
    return typeof JSON.parse(text) === "object";
  } catch {
    return false;
  }
}

/** The whole URL of an inbox that was made. */
function urlOf({ edge }: InboxClient, { path }: Change): string {
  if (path === undefined) throw new CommandError("NotAnEdge", "the answer has no URL: look for a proxy in between");
  return `${edge.href.replace(/\/+$/, "")}${path}`;
}

function isInbox(value: unknown): value is Inbox {
  const { name, verify, last, stored } = (value ?? {}) as Partial<Inbox>;
  return [name, verify, last].every((text) => typeof text === "string") && typeof stored === "number";
}

function isChange(value: unknown): value is Change {
  const { inbox, path } = (value ?? {}) as Partial<Change>;
  return isInbox(inbox) && (path === undefined || /^\/in\/[A-Za-z0-9_-]+$/.test(path));
}

function isList(value: unknown): boolean {
  const { inboxes } = (value ?? {}) as { readonly inboxes?: unknown };
  return Array.isArray(inboxes) && inboxes.every(isInbox);
}

function isFailedList(value: unknown): boolean {
  const { failed } = (value ?? {}) as { readonly failed?: unknown };
  return (
    Array.isArray(failed) &&
    failed.every(
      ({ number, inbox, target, reason, detail, at }: Partial<Failed>) =>
        [number, at].every((figure) => typeof figure === "number") &&
        [inbox, target, reason, detail].every((text) => typeof text === "string"),
    )
  );
}

function isRemoved(value: unknown): boolean {
  return (value as { readonly removed?: unknown } | null)?.removed === true;
}

function isRemovedCount(value: unknown): boolean {
  return Number.isInteger((value as { readonly removed?: unknown } | null)?.removed);
}

function isReplayed(value: unknown): boolean {
  const { replayed, refused } = (value ?? {}) as { readonly replayed?: unknown; readonly refused?: unknown };
  return Number.isInteger(replayed) && (refused === undefined || typeof refused === "string");
}
