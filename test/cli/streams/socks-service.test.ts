/** Streams that are SOCKS 5 connections: look-ups are scripted, sockets are real. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { socksReply } from "../../../src/cli/streams/socks-server.ts";
import { SocksService } from "../../../src/cli/streams/socks-service.ts";
import type { DeviceStream } from "../../../src/device/index.ts";
import { type Destination, parseDestination } from "../../../src/edge/policy/destinations.ts";

/** A stream without a network, whose other end is the program. */
class TestStream implements DeviceStream {
  readonly service = "?socks";
  readonly peer = { address: "alice/pc", key: undefined };
  readonly closed: Promise<void>;
  readonly #closing = Promise.withResolvers<void>();
  readonly #up = breakable();
  readonly #down = breakable();
  readonly readable = this.#up.readable;
  readonly writable = this.#down.writable;
  /** The program's ends. */
  readonly writer = this.#up.writable.getWriter();
  readonly reader = this.#down.readable.getReader();
  wasReset = false;

  constructor() {
    this.closed = this.#closing.promise;
    this.closed.catch(() => undefined);
    for (const end of [this.writer, this.reader]) end.closed.catch(() => undefined);
  }

  accept(): void {}

  reset(): void {
    this.wasReset = true;
    for (const { fail } of [this.#up, this.#down]) fail();
    this.#closing.reject(new Error("reset"));
  }

  /** The program writes, while it reads all that comes. */
  send(...octets: number[]): void {
    this.writer.write(Uint8Array.from(octets)).catch(() => undefined);
  }

  async read(count: number): Promise<number[]> {
    const got: number[] = [];
    while (got.length < count) {
      const { value, done } = await this.reader.read();
      if (done) break;
      got.push(...value);
    }
    return got;
  }

  async readAll(): Promise<number[]> {
    return this.read(Number.POSITIVE_INFINITY);
  }
}

function breakable() {
  let controller: TransformStreamDefaultController<Uint8Array> | undefined;
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>({
    start: (given) => {
      controller = given;
    },
  });
  return { readable, writable, fail: () => controller?.error(new Error("reset")) };
}

interface Target {
  readonly port: number;
  connections: number;
}

/** Says hello, and sends back what it gets. */
async function target(t: TestContext): Promise<Target> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    made.connections += 1;
    socket.on("error", () => undefined);
    socket.write("!");
    socket.pipe(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const made: Target = { port: (server.address() as { port: number }).port, connections: 0 };
  return made;
}

interface Setting {
  readonly list: readonly string[];
  /** What the resolver answers, one after the other. */
  readonly answers?: readonly (readonly string[] | Error)[];
}

function destinationsOf(list: readonly string[]): readonly Destination[] {
  return list.map((text) => {
    const parsed = parseDestination(text);
    assert.ok(parsed.ok, text);
    return parsed.value;
  });
}

function served({ list, answers = [] }: Setting) {
  const stream = new TestStream();
  const refusals: string[] = [];
  const names: string[] = [];
  const service = new SocksService({
    destinations: destinationsOf(list),
    refused: (_, why) => refusals.push(why),
    resolve: async (name) => {
      const answer = answers[names.push(name) - 1] ?? new Error("asked too often");
      if (answer instanceof Error) throw answer;
      return answer;
    },
  });
  return { service, stream, refusals, names, ended: service.serve(stream) };
}

function asking(host: string, port: number, command = 1): number[] {
  return [5, 1, 0, 5, command, 0, 3, host.length, ...Buffer.from(host), port >> 8, port & 0xff];
}

const NAME = "app.example.com";
const connected = [5, 0, ...socksReply("Succeeded")];

describe("the SOCKS service", () => {
  it("dials the addresses that were judged: a name is looked up once, and may lead elsewhere afterwards", async (t) => {
    const { port } = await target(t);
    const { stream, names, ended } = served({
      list: [`${NAME}:${port}`, `127.0.0.1:${port}`],
      answers: [["127.0.0.1"], ["169.254.169.254"]],
    });
    // With the request comes what is for the target.
    stream.send(...asking(NAME, port), 65, 66);
    await Promise.all([
      stream.writer.close(),
      (async () => {
        assert.deepEqual(await stream.readAll(), [...connected, 33, 65, 66]);
      })(),
    ]);
    await ended;
    assert.deepEqual(names, [NAME]);
  });

  it("tries the addresses of a name one after the other", async (t) => {
    const { port } = await target(t);
    const { stream, ended } = served({
      list: [`${NAME}:${port}`, `127.0.0.0/16:${port}`],
      answers: [["127.0.0.2", "127.0.0.1"]],
    });
    stream.send(...asking(NAME, port));
    assert.deepEqual(await stream.read(13), [...connected, 33]);
    stream.reset();
    await ended;
  });

  it("opens no socket to what is not listed, under whatever name", async (t) => {
    const made = await target(t);
    const { port } = made;
    for (const [host, answers, list] of [
      [NAME, [["127.0.0.1"]], [`${NAME}:${port}`]],
      [NAME, [["192.0.2.1", "::ffff:127.0.0.1"]], [`${NAME}:${port}`]],
      ["other.example.com", [], [`${NAME}:${port}`]],
      ["0x7f.1", [], [`${NAME}:${port}`]],
      ["127.0.0.1", [], [`127.0.0.1:${port + 1 > 65535 ? port - 1 : port + 1}`]],
    ] as const) {
      const { stream, refusals, names, ended } = served({ list, answers });
      stream.send(...asking(host, port));
      assert.deepEqual(await stream.readAll(), [5, 0, ...socksReply("NotAllowed")], host);
      await stream.writer.close();
      await ended;
      assert.equal(names.length, answers.length);
      assert.match(refusals.join(), /not listed/);
      assert.equal(stream.wasReset, false);
    }
    assert.equal(made.connections, 0);
  });

  it("says by the codes of RFC 1928 why it has not connected", async (t) => {
    const { port } = await target(t);
    // Nobody listens at the second address.
    const list = [`${NAME}:${port}`, `127.0.0.2:${port}`];
    for (const [octets, reply, answers] of [
      [asking("127.0.0.2", port), "ConnectionRefused", []],
      [asking(NAME, port), "HostUnreachable", [new Error("no such name")]],
      [asking(NAME, port), "HostUnreachable", [[]]],
      [asking(NAME, port, 2), "CommandNotSupported", []],
    ] as const) {
      const { stream, ended } = served({ list, answers });
      stream.send(...octets);
      assert.deepEqual(await stream.readAll(), [5, 0, ...socksReply(reply)], reply);
      await stream.writer.close();
      await ended;
    }
  });

  it("opens no socket for a program that is gone before its name is looked up", async (t) => {
    const made = await target(t);
    const answer = Promise.withResolvers<string[]>();
    const asked = Promise.withResolvers<void>();
    const stream = new TestStream();
    const service = new SocksService({
      destinations: destinationsOf([`localhost:${made.port}`]),
      refused: () => undefined,
      resolve: () => {
        asked.resolve();
        return answer.promise;
      },
    });
    const ended = service.serve(stream);
    stream.send(...asking("localhost", made.port));
    await stream.read(2);
    await asked.promise;
    stream.reset();
    answer.resolve(["127.0.0.1"]);
    await ended;
    // Connections are accepted in their order.
    const last = connect(made.port, "127.0.0.1");
    await once(last, "data");
    last.destroy();
    assert.equal(made.connections, 1);
  });

  it("ends the connections to what is not listed any more, and no others", async (t) => {
    const { port } = await target(t);
    const list = [`${NAME}:${port}`, `127.0.0.1:${port}`];
    const { service, stream: byName, ended } = served({ list, answers: [["127.0.0.1"]] });
    const byAddress = new TestStream();
    const other = service.serve(byAddress);
    byName.send(...asking(NAME, port));
    byAddress.send(...asking("0x7f.1", port));
    for (const stream of [byName, byAddress]) assert.deepEqual(await stream.read(13), [...connected, 33]);
    service.setDestinations(destinationsOf([`127.0.0.1:${port}`]));
    await ended;
    assert.deepEqual([byName.wasReset, byAddress.wasReset], [true, false]);
    byAddress.send(65);
    assert.deepEqual(await byAddress.read(1), [65]);
    service.setDestinations(destinationsOf([`${NAME}:${port}`]));
    await other;
    assert.equal(byAddress.wasReset, true);
  });

  it("opens no connection to what is not listed any more when its name was looked up", async (t) => {
    const made = await target(t);
    const answer = Promise.withResolvers<string[]>();
    const asked = Promise.withResolvers<void>();
    const refusals: string[] = [];
    const stream = new TestStream();
    const service = new SocksService({
      destinations: destinationsOf([`localhost:${made.port}`]),
      refused: (_, why) => refusals.push(why),
      resolve: () => {
        asked.resolve();
        return answer.promise;
      },
    });
    const ended = service.serve(stream);
    stream.send(...asking("localhost", made.port));
    await stream.read(2);
    await asked.promise;
    service.setDestinations(destinationsOf([`127.0.0.1:${made.port + 1 > 65535 ? 1 : made.port + 1}`]));
    answer.resolve(["127.0.0.1"]);
    assert.deepEqual(await stream.readAll(), [...socksReply("NotAllowed")]);
    await stream.writer.close();
    await ended;
    assert.equal(made.connections, 0);
    assert.match(refusals.join(), /not listed/);
  });

  it("resets a program that ends or fails within its request", async () => {
    const { stream, ended } = served({ list: [`${NAME}:80`] });
    stream.send(5, 1, 0, 5);
    await stream.read(2);
    await stream.writer.close();
    await ended;
    assert.equal(stream.wasReset, true);
  });
});
