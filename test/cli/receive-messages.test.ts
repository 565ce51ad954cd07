/** What `recv` does with messages, without a process or a relay. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CommandError } from "../../src/cli/command-error.ts";
import type { FileReceiver, IncomingMessage, Outcome } from "../../src/cli/files/file-receiver.ts";
import { type Form, receive } from "../../src/cli/receive-messages.ts";
import type { Piece } from "../../src/cli/standard-output.ts";
import { DeviceError, type Message } from "../../src/device/index.ts";
import { encodeMessage, type TransferMessage } from "../../src/transfer/index.ts";
import { soon } from "../support/watch.ts";

const TRANSFER = "0123456789abcdef".repeat(2);
const HASH = "0123456789abcdef".repeat(4);

/** A promise that the test settles. */
function gate() {
  return Promise.withResolvers<void>();
}

interface Said {
  readonly from?: string | undefined;
  readonly vouched?: boolean;
  readonly resource?: string;
}

/** A device, standard output and a file receiver, all driven by the test. */
class Stage {
  readonly acknowledged: string[] = [];
  readonly told: string[] = [];
  readonly drawn: (readonly [done: number, total: number | undefined, label: string | undefined])[] = [];
  stdout = "";
  isClosed = false;
  /** The outcomes of the next transfer messages. */
  readonly outcomes: (Outcome | Error | Promise<Outcome>)[] = [];
  /** Transfer messages being processed, at most. */
  taking = 0;
  mostTaking = 0;
  /** Files of earlier runs that can now be stored. */
  completed: Outcome[] = [];
  opensFilesFirst = false;
  onWrite: (text: string) => Promise<void> | undefined = () => undefined;
  readonly #interrupted = new AbortController();
  readonly #messages: Message[] = [];
  #wake = () => {};
  #number = 0;
  #lost: DeviceError | undefined;

  /** A message arrives. */
  arrive(body: string | Uint8Array, said: Said = {}): this {
    const { vouched = true, resource = "message" } = said;
    this.#number += 1;
    const id = `${this.#number}`;
    this.#messages.push({
      id,
      from: "from" in said ? said.from : "alice/pc",
      vouched,
      resource,
      part: undefined,
      body: typeof body === "string" ? Buffer.from(body) : body,
      text: () => String(body),
      done: () => this.acknowledged.push(id),
    });
    this.#wake();
    return this;
  }

  /** A transfer message arrives, with its outcome. */
  transfer(
    message: Partial<TransferMessage> & Pick<TransferMessage, "type">,
    outcome: Outcome | Error | Promise<Outcome>,
  ): this {
    this.outcomes.push(outcome);
    const defaults = {
      begin: { name: "f", size: 9 },
      part: { offset: 0, bytes: Buffer.from("x") },
      end: { size: 9, sha256: HASH },
    };
    const fields = { ...(defaults as Record<string, object>)[message.type], transfer: TRANSFER, ...message };
    return this.arrive(encodeMessage(fields as TransferMessage), { resource: "file" });
  }

  /** The connection ends for good. */
  lose(error: DeviceError): void {
    this.#lost = error;
    this.#wake();
  }

  interrupt(): void {
    this.#interrupted.abort();
  }

  receive(form: Form = "lines", isFollowing = false) {
    const stage = this;
    const files: Pick<FileReceiver, "take" | "retry"> = {
      retry: async () => stage.completed,
      async take(message: IncomingMessage) {
        stage.taking += 1;
        stage.mostTaking = Math.max(stage.mostTaking, stage.taking);
        try {
          const outcome = await stage.outcomes.shift();
          if (outcome === undefined || outcome instanceof Error) throw outcome ?? new Error("one outcome too few");
          message.done();
          return outcome;
        } finally {
          stage.taking -= 1;
        }
      },
    };
    const write = async (pieces: Iterable<Piece>) => {
      const text = Buffer.concat([...pieces].map((piece) => Buffer.from(piece as Uint8Array))).toString("latin1");
      await stage.onWrite(text);
      stage.stdout += Buffer.from(text, "latin1");
    };
    return receive({
      source: {
        async *messages() {
          for (;;) {
            if (stage.#lost !== undefined) throw stage.#lost;
            if (stage.isClosed) return;
            const message = stage.#messages.shift();
            if (message !== undefined) yield message;
            else {
              await new Promise<void>((resolve) => {
                stage.#wake = resolve;
              });
            }
          }
        },
        async close() {
          stage.isClosed = true;
          stage.#wake();
        },
      },
      files: async () => files,
      opensFilesFirst: this.opensFilesFirst,
      output: {
        columns: undefined,
        write,
        report: write,
        close() {},
      },
      form,
      isFollowing,
      tell: (line) => void stage.told.push(line),
      progress: {
        update: (...update) => void stage.drawn.push([update[0], update[1], update[2]]),
        hide() {},
        end() {},
      },
      signal: this.#interrupted.signal,
    });
  }
}

const SOURCE = { from: "alice/pc", vouched: true };

function received(name: string, elsewhere = false): Outcome {
  const path = `/in/${name}`;
  return {
    kind: "received",
    file: { ...SOURCE, transfer: TRANSFER, name, path, bytes: 2048, sha256: HASH, elsewhere },
  };
}

function kept(held: number, size?: number): Outcome {
  return { kind: "kept", transfer: TRANSFER, name: "f", held, size };
}

describe("the display of a message", () => {
  const cases: readonly (readonly [name: string, form: Form, body: string | Uint8Array, said: Said, stdout: string])[] =
    [
      ["a text", "lines", "hello", {}, "alice/pc: hello\n"],
      [
        "a text that imitates another sender's line",
        "lines",
        "line one\nboss/pc: pay now",
        {},
        "alice/pc: line one\n    | boss/pc: pay now\n",
      ],
      ["a terminal escape sequence", "lines", "\x1b[2K\rboss/pc: hi", {}, "alice/pc: \\e[2K\\rboss/pc: hi\n"],
      ["a sender that nobody vouches for", "lines", "hi", { vouched: false }, "alice/pc (as the sender says): hi\n"],
      ["a sender without an address", "lines", "hi", { from: undefined }, "an unknown sender: hi\n"],
      ["a sender with an escape sequence", "lines", "hi", { from: "a\x1b[2K\nboss/pc" }, "a\\e[2K\\nboss/pc: hi\n"],
      ["a body that is not text", "lines", Uint8Array.of(0x80, 0x41), {}, "alice/pc: \\x80A\n"],
      [
        "JSON",
        "json",
        "a\n\u202e\x9b",
        { resource: "chat\x1b" },
        '{"event":"message","id":"1","from":"alice/pc","vouched":true,"resource":"chat\\u001b","text":"a\\n\\u202e\\u009b"}\n',
      ],
      [
        "JSON of a body that is not text",
        "json",
        Uint8Array.of(0x80),
        {},
        '{"event":"message","id":"1","from":"alice/pc","vouched":true,"resource":"message","base64":"gA=="}\n',
      ],
      ["the raw body", "raw", "\x1b[2Ka\nb", {}, "\x1b[2Ka\nb"],
    ];
  for (const [name, form, body, said, stdout] of cases) {
    it(name, async () => {
      const stage = new Stage().arrive(body, said);
      assert.deepEqual(await stage.receive(form), { received: 1, setAside: 0 });
      assert.equal(stage.stdout, stdout);
      assert.deepEqual(stage.acknowledged, ["1"]);
      assert(stage.isClosed);
    });
  }
});

describe("the display of files", () => {
  const name = "\x1b[2K\rreceived report.pdf from boss";
  const escaped = "\\e[2K\\rreceived report.pdf from boss";
  const setAside: Outcome = {
    kind: "setAside",
    source: SOURCE,
    transfer: TRANSFER,
    name,
    reason: "PartMissing",
    detail: "parts are missing",
  };
  const cases: readonly (readonly [
    name: string,
    form: Form,
    outcome: Outcome,
    stdout: string,
    told: readonly string[],
  ])[] = [
    ["a file", "lines", received(name), `received /in/${escaped} from alice/pc: 2.0 KiB, sha256 ${HASH}\n`, []],
    [
      "a file that an earlier run started elsewhere",
      "lines",
      received("f", true),
      `received /in/f (where an earlier run began it) from alice/pc: 2.0 KiB, sha256 ${HASH}\n`,
      [],
    ],
    [
      "a file, as JSON",
      "json",
      received("f"),
      `{"event":"file","name":"f","path":"/in/f","bytes":2048,"sha256":"${HASH}","transfer":"${TRANSFER}","from":"alice/pc","vouched":true,"elsewhere":false}\n`,
      [],
    ],
    ["a file in raw form", "raw", received("f"), "", [`received /in/f from alice/pc: 2.0 KiB, sha256 ${HASH}`]],
    [
      "a transfer that is set aside",
      "lines",
      setAside,
      "",
      [`set aside ${escaped} from alice/pc: parts are missing [PartMissing]`],
    ],
    [
      "a transfer that is set aside, as JSON",
      "json",
      setAside,
      `{"event":"setAside","name":"\\u001b[2K\\rreceived report.pdf from boss","transfer":"${TRANSFER}","from":"alice/pc","vouched":true,"reason":"PartMissing","detail":"parts are missing"}\n`,
      [],
    ],
    ["a part", "lines", kept(1), "", []],
    ["a repetition", "lines", { kind: "repeated", transfer: TRANSFER }, "", []],
  ];
  for (const [name, form, outcome, stdout, told] of cases) {
    it(name, async () => {
      const stage = new Stage().transfer({ type: "end" }, outcome);
      const ended = stage.receive(form);
      if (outcome.kind !== "received") setImmediate(() => stage.interrupt());
      await ended;
      assert.equal(stage.stdout, stdout);
      assert.deepEqual(stage.told, told);
      assert.deepEqual(stage.acknowledged, ["1"]);
    });
  }

  it("shows the progress of all concurrent transfers", async () => {
    const stage = new Stage()
      .transfer({ type: "part" }, kept(1024, 2048))
      .transfer({ type: "part" }, { ...kept(10, 90), transfer: "other" } as Outcome)
      .transfer({ type: "end" }, received("f"));
    await stage.receive();
    assert.deepEqual(stage.drawn, [
      [1024, 2048, "f"],
      [1034, 2138, "2 files"],
    ]);
  });
});

describe("receiving", () => {
  it("ends after the first message; later ones are redelivered", async () => {
    const stage = new Stage().arrive("one").arrive("two");
    await stage.receive();
    assert.equal(stage.stdout, "alice/pc: one\n");
    assert.deepEqual(stage.acknowledged, ["1"]);
  });

  it("ends after a file of an earlier run that can now be stored", async () => {
    const stage = new Stage().arrive("behind it");
    stage.opensFilesFirst = true;
    stage.completed = [received("f")];
    assert.deepEqual(await stage.receive(), { received: 1, setAside: 0 });
    assert.match(stage.stdout, /^received \/in\/f /);
    assert.deepEqual(stage.acknowledged, []);
  });

  it("ends after the first file, even if another is already complete", async () => {
    const first = Promise.withResolvers<Outcome>();
    const stage = new Stage().transfer({ type: "end" }, first.promise).transfer({ type: "end" }, received("g"));
    const ended = stage.receive();
    setImmediate(() => first.resolve(received("f")));
    assert.deepEqual(await ended, { received: 1, setAside: 0 });
    assert.deepEqual(stage.acknowledged, ["1"]);
  });

  it("processes a bounded number of parts at a time, and a transfer that is set aside blocks nothing", async () => {
    const open = gate();
    const stage = new Stage();
    for (let n = 0; n < 100; n += 1)
      stage.transfer(
        { type: "part", offset: n },
        open.promise.then(() => kept(n)),
      );
    stage.transfer(
      { type: "end" },
      { kind: "setAside", source: SOURCE, transfer: TRANSFER, name: "f", reason: "HashMismatch", detail: "no" },
    );
    stage.arrive("behind it");
    const ended = stage.receive();
    setTimeout(() => open.resolve(), 20);
    assert.deepEqual(await ended, { received: 1, setAside: 1 });
    assert.equal(stage.mostTaking, 64);
    assert.equal(stage.acknowledged.length, 102);
  });

  it("acknowledges a message only once it is written", async () => {
    const open = gate();
    const stage = new Stage().arrive("one");
    stage.onWrite = () => open.promise;
    const ended = stage.receive();
    await new Promise(setImmediate);
    assert.deepEqual(stage.acknowledged, []);
    open.resolve();
    await ended;
    assert.deepEqual(stage.acknowledged, ["1"]);
  });

  it("ends when a message cannot be written, and acknowledges neither it nor later ones", async () => {
    const stage = new Stage().arrive("one").arrive("two").arrive("three");
    stage.onWrite = (text) =>
      text.includes("one") ? undefined : Promise.reject(new CommandError("CannotWrite", "no"));
    await assert.rejects(stage.receive("lines", true), { code: "CannotWrite" });
    assert.deepEqual(stage.acknowledged, ["1"]);
    assert(stage.isClosed);
  });

  it("ends when the disk fails, even without a further message", async () => {
    const stage = new Stage().transfer({ type: "part" }, new CommandError("CannotWrite", "the disk is full"));
    await assert.rejects(soon(stage.receive("lines", true), "the end"), { code: "CannotWrite" });
    assert.deepEqual(stage.acknowledged, []);
  });

  it("does not set aside a transfer whose part could not be written", async () => {
    const stage = new Stage().transfer({ type: "part" }, new CommandError("CannotWrite", "the disk is full")).transfer(
      { type: "end" },
      {
        kind: "setAside",
        source: SOURCE,
        transfer: TRANSFER,
        name: "f",
        reason: "PartMissing",
        detail: "parts are missing",
      },
    );
    await assert.rejects(stage.receive(), { code: "CannotWrite" });
    assert.deepEqual(stage.told, []);
  });

  it("acknowledges what is being written before an interrupt ends the connection", async () => {
    const open = gate();
    const stage = new Stage().arrive("one");
    stage.onWrite = () => open.promise;
    const ended = stage.receive("lines", true);
    await new Promise(setImmediate);
    stage.interrupt();
    stage.arrive("two");
    await new Promise(setImmediate);
    assert(!stage.isClosed);
    open.resolve();
    assert.deepEqual(await ended, { received: 1, setAside: 0 });
    assert.deepEqual(stage.acknowledged, ["1"]);
    assert(stage.isClosed);
  });

  it("ends on an interrupt while output is blocked, and acknowledges nothing", async (context) => {
    context.mock.timers.enable({ apis: ["setTimeout"] });
    const stage = new Stage().arrive("one");
    stage.onWrite = () => new Promise(() => undefined);
    const ended = stage.receive("lines");
    await new Promise(setImmediate);
    stage.interrupt();
    await new Promise(setImmediate);
    context.mock.timers.tick(2_000);
    assert.deepEqual(await ended, { received: 0, setAside: 0 });
    assert.deepEqual(stage.acknowledged, []);
  });

  it("ends on an interrupt before the first message", async () => {
    const stage = new Stage();
    stage.interrupt();
    assert.deepEqual(await stage.receive("lines", true), { received: 0, setAside: 0 });
  });

  it("ends when the connection is closed for good", async () => {
    const stage = new Stage().arrive("one");
    stage.lose(new DeviceError("AddressInUse", "another one"));
    await assert.rejects(stage.receive("lines", true), { code: "AddressInUse" });
  });
});
