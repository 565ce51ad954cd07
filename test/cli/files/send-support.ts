/** Shared by tests of sending: a relay, a proxy that can throttle, and a recipient that stores files in a folder. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { FileReceiver, type ReceivedFile } from "../../../src/cli/files/file-receiver.ts";
import { Device } from "../../../src/device/index.ts";
import { startRelay } from "../../../src/relay/index.ts";
import { CANCEL_RESOURCE } from "../../../src/transfer/index.ts";
import { listen } from "../../support/sockets.ts";
import { eventually } from "../../support/watch.ts";
import { type Finished, folder, run } from "../support.ts";

/** A proxy to a relay that lets a limited amount through until it is opened. */
export interface Narrows {
  readonly port: number;
  /** Lets this many more bytes through to the relay. */
  limit(bytes: number): void;
  readonly isFull: boolean;
  open(): void;
}

async function narrows(context: TestContext, relayPort: () => number): Promise<Narrows> {
  let left = Number.POSITIVE_INFINITY;
  const paused = new Set<Socket>();
  const server = await listen((device) => {
    const relay = connect({ port: relayPort(), host: "127.0.0.1" });
    relay.pipe(device);
    relay.on("error", () => device.destroy());
    device.on("close", () => relay.destroy());
    device.on("data", (octets: Buffer) => {
      relay.write(octets);
      left -= octets.length;
      if (left > 0) return;
      device.pause();
      paused.add(device);
    });
  });
  context.after(() => server.close());
  return {
    port: server.port,
    limit(bytes) {
      left = bytes;
    },
    get isFull() {
      return left <= 0;
    },
    open() {
      left = Number.POSITIVE_INFINITY;
      for (const device of paused) device.resume();
    },
  };
}

/** A relay, a connected recipient, and folders: `here` to send from, `there` for what arrives. */
export class Place {
  readonly here: string;
  readonly there: string;
  readonly state: string;
  /** Between the command and the relay. */
  readonly way: Narrows;
  readonly received: ReceivedFile[] = [];
  /** Parts that have arrived, over all transfers. */
  parts = 0;
  /** Transfers that the sender has cancelled. */
  cancelled = 0;

  private constructor(at: string, way: Narrows) {
    this.here = join(at, "here");
    this.there = join(at, "there");
    this.state = join(at, "state");
    this.way = way;
    for (const path of [this.here, this.there, this.state]) mkdirSync(path);
  }

  static async open(context: TestContext): Promise<Place> {
    let port = 0;
    const way = await narrows(context, () => port);
    const relay = await startRelay({ port: 0, names: ["127.0.0.1", `127.0.0.1:${way.port}`] });
    context.after(() => relay.close());
    port = relay.port;
    const bob = await Device.connect({ relay: `127.0.0.1:${port}`, address: "bob/laptop" });
    let files: FileReceiver | undefined;
    context.after(async () => {
      await bob.close();
      await files?.close();
    });
    const place = new Place(await folder(context), way);
    files = await FileReceiver.open({ out: place.there, state: place.there });
    void place.#receive(bob, files);
    return place;
  }

  async #receive(bob: Device, files: FileReceiver): Promise<void> {
    for await (const message of bob.messages()) {
      void files.take(message).then((outcome) => {
        if (outcome.kind === "received") this.received.push(outcome.file);
        if (outcome.kind === "kept") this.parts += 1;
        if (message.resource === CANCEL_RESOURCE) this.cancelled += 1;
      });
    }
  }

  write(path: string, content: string | Uint8Array): string {
    const full = join(this.here, path);
    mkdirSync(join(full, ".."), { recursive: true });
    writeFileSync(full, content);
    return full;
  }

  args(paths: readonly string[], state = this.state): string[] {
    const relay = `127.0.0.1:${this.way.port}`;
    return ["send", "--relay", relay, "--as", "alice/pc", "--state", state, "bob/laptop", ...paths];
  }

  send(context: TestContext, paths: readonly string[], input?: string | Uint8Array): Promise<Finished> {
    return run(context, this.args(paths), input);
  }

  /** Waits until this many files have arrived, and returns their names. */
  async names(count: number): Promise<string[]> {
    await eventually(() => this.received.length >= count, `${count} files, of which ${this.received.length} came`);
    return this.received.map(({ name }) => name).sort();
  }

  content(name: string): Buffer {
    return readFileSync(join(this.there, name));
  }
}
