/**
 * Two engines, arbitrary calls on both, and a path that splits, loses, repeats and swaps. What is read is what was
 * written, in order and once; every stream ends at both ends as its applications ended it; no channel ends.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PacketDecoder } from "../../src/streams/index.ts";
import { runs } from "../support/long-form.ts";
import { connected, type End, generator, type Pair, pattern } from "./support.ts";

/** The possible actions of a step, and their weights. */
const WEIGHTS = {
  open: 6,
  accept: 8,
  write: 20,
  read: 16,
  end: 5,
  reset: 1,
  flush: 16,
  deliver: 30,
  lose: 2,
  repeat: 2,
  swap: 1,
  cut: 2,
  time: 8,
} as const;
type Kind = keyof typeof WEIGHTS;
type Step = readonly [side: 0 | 1, kind: Kind, choice: number];

/** One direction of one stream, as its writer and its reader see it. */
interface Direction {
  written: number;
  ended: boolean;
  read: number;
  readEnd: boolean;
}

/** A stream by its id: directions by the side that writes, and where it was reset. */
interface Known {
  readonly directions: readonly [Direction, Direction];
  readonly gone: [boolean, boolean];
  reset: boolean;
}

/** What is on its way from one side. */
interface Wire {
  packets: Uint8Array[];
  readonly earlier: Uint8Array[];
  decoder: PacketDecoder;
  /** Octets of the first packet that have arrived. */
  arrived: number;
}

function pick<T>(list: readonly T[], choice: number): T | undefined {
  return list[choice % Math.max(1, list.length)];
}

class World {
  readonly pair: Pair = connected();
  readonly #wires: readonly [Wire, Wire] = [newWire(), newWire()];
  readonly #streams = new Map<number, Known>();
  readonly #proposed: [Set<number>, Set<number>] = [new Set(), new Set()];
  /** Streams whose opening has arrived. */
  readonly #opened = new Set<number>();

  #end(side: 0 | 1): End {
    return this.pair.ends[side];
  }

  step([side, kind, choice]: Step): void {
    const { channel } = this.#end(side);
    const id = pick(
      [...this.#streams.keys()].filter((one) => this.#isUsable(one, side)),
      choice,
    );
    const random = generator(choice + 1);
    switch (kind) {
      case "open": {
        if (this.#streams.size >= 12) break;
        const opened = channel.open("echo");
        assert.ok(opened.ok);
        this.#streams.set(opened.value, newStream());
        break;
      }
      case "accept": {
        for (const one of this.#proposed[side]) channel.accept(one);
        this.#proposed[side].clear();
        break;
      }
      case "write":
        if (id !== undefined) this.#write(side, id, 1 + random(choice % 3 === 0 ? 90_000 : 300));
        break;
      case "read":
        if (id !== undefined) this.#read(side, id, 1 + random(50_000));
        break;
      case "end":
        if (id !== undefined) this.#halfClose(side, id);
        break;
      case "reset":
        if (id !== undefined) this.#reset(side, id);
        break;
      case "flush":
        this.#flush(side, 1 + random(200_000));
        break;
      case "deliver":
        this.#deliver(side, 1 + random(100_000));
        break;
      case "lose":
        this.#wires[side].packets.splice(1 + random(3), 1 + random(3));
        break;
      case "repeat": {
        const packet = pick(this.#wires[side].earlier, choice);
        if (packet !== undefined) this.#wires[side].packets.push(packet);
        break;
      }
      case "swap": {
        const { packets } = this.#wires[side];
        const [packet] = packets.splice(1 + random(3), 1);
        if (packet !== undefined) packets.push(packet);
        break;
      }
      case "cut":
        this.#cut(choice % 3);
        break;
      case "time":
        this.#pass(random(3000));
    }
    this.#note();
  }

  /** A new path that loses nothing; everything is read, written and ended. */
  settle(): void {
    this.#cut(2);
    for (let round = 0; round < 3000; round += 1) {
      for (const side of [0, 1] as const) {
        const { channel } = this.#end(side);
        for (const one of this.#proposed[side]) channel.accept(one);
        for (const [id, { directions }] of this.#streams) {
          if (!this.#isUsable(id, side)) continue;
          if (!directions[side].ended) this.#halfClose(side, id);
          this.#read(side, id, 1_000_000);
        }
        this.#flush(side, 1_000_000);
        this.#deliver(side, 10_000_000);
      }
      this.#pass(20);
      this.#note();
      if (this.pair.ends.every(({ channel }) => channel.isIdle && !channel.isPending)) break;
    }
    for (const { channel } of this.pair.ends) {
      assert.equal(channel.ended, undefined);
      assert.equal(channel.streams, 0);
      assert.ok(channel.isIdle);
    }
    for (const [id, { directions, gone, reset }] of this.#streams) {
      assert.deepEqual(gone, [true, true], `stream ${id} is left`);
      if (reset) continue;
      for (const { written, read, readEnd } of directions) {
        assert.equal(read, written);
        assert.ok(readEnd);
      }
    }
  }

  /** Whether the application of a side knows the stream, and has not lost it. */
  #isUsable(id: number, side: 0 | 1): boolean {
    return this.#streams.get(id)?.gone[side] === false && (id % 2 !== side || this.#opened.has(id));
  }

  #write(side: 0 | 1, id: number, length: number): void {
    const { channel } = this.#end(side);
    const direction = (this.#streams.get(id) as Known).directions[side];
    if (direction.ended || channel.room(id) <= 0) return;
    channel.write(id, pattern(id * 2 + side, direction.written, length));
    direction.written += length;
  }

  #read(side: 0 | 1, id: number, most: number): void {
    const direction = (this.#streams.get(id) as Known).directions[side === 0 ? 1 : 0];
    for (let left = most; left > 0; ) {
      const piece = this.#end(side).channel.read(id, left, this.pair.now);
      if (piece === undefined) return;
      if (piece === "end") {
        direction.readEnd = true;
        return;
      }
      const expected = pattern(id * 2 + (side === 0 ? 1 : 0), direction.read, piece.length);
      assert.ok(Buffer.from(piece).equals(expected), "what is read is what was written");
      direction.read += piece.length;
      assert.ok(direction.read <= direction.written);
      left -= piece.length;
    }
  }

  #halfClose(side: 0 | 1, id: number): void {
    (this.#streams.get(id) as Known).directions[side].ended = true;
    this.#end(side).channel.end(id);
  }

  #reset(side: 0 | 1, id: number): void {
    const stream = this.#streams.get(id) as Known;
    stream.reset = true;
    stream.gone[side] = true;
    this.#end(side).channel.reset(id);
  }

  #flush(side: 0 | 1, most: number): void {
    const packets = this.#end(side).channel.output(most, this.pair.now);
    this.#wires[side].packets.push(...packets);
    this.#wires[side].earlier.push(...packets);
  }

  #deliver(side: 0 | 1, most: number): void {
    const wire = this.#wires[side];
    const to = this.#end(side === 0 ? 1 : 0);
    for (let left = most; left > 0; ) {
      const packet = wire.packets[0];
      if (packet === undefined) return;
      const piece = Buffer.from(packet.subarray(wire.arrived, wire.arrived + left));
      wire.arrived += piece.length;
      left -= piece.length;
      if (wire.arrived === packet.length) {
        wire.packets.shift();
        wire.arrived = 0;
      }
      wire.decoder.push(piece, (_route, body) => {
        to.channel.receive(body, this.pair.now);
        // The memory is used again.
        body.fill(0xee);
      });
    }
  }

  /** A new path of one side, or of both. What is on its way, in part or whole, is lost. */
  #cut(which: number): void {
    for (const side of [0, 1] as const) {
      const wire = this.#wires[side];
      wire.packets = [];
      wire.arrived = 0;
      wire.decoder = new PacketDecoder();
      if (which === side) continue;
      this.#end(side).channel.detach(this.pair.now);
      this.#end(side).channel.attach(this.pair.now);
    }
  }

  #pass(time: number): void {
    this.pair.now += time;
    for (const { channel } of this.pair.ends) if (channel.deadline <= this.pair.now) channel.advance(this.pair.now);
  }

  #note(): void {
    for (const side of [0, 1] as const) {
      for (const event of this.#end(side).events()) {
        if (event.type === "opened") {
          this.#proposed[side].add(event.stream);
          this.#opened.add(event.stream);
        }
        if (event.type !== "finished" && event.type !== "reset") continue;
        const stream = this.#streams.get(event.stream) as Known;
        stream.gone[side] = true;
        if (event.type === "reset") assert.ok(stream.reset, "only what an application has reset is reset");
      }
    }
  }
}

function newWire(): Wire {
  return { packets: [], earlier: [], decoder: new PacketDecoder(), arrived: 0 };
}

function newStream(): Known {
  const direction = () => ({ written: 0, ended: false, read: 0, readEnd: false });
  return { directions: [direction(), direction()], gone: [false, false], reset: false };
}

const kinds = (Object.keys(WEIGHTS) as Kind[]).map((kind) => ({
  arbitrary: fc.constant(kind),
  weight: WEIGHTS[kind],
}));
const step: fc.Arbitrary<Step> = fc.tuple(fc.constantFrom(0, 1), fc.oneof(...kinds), fc.nat(1_000_000));

test("any interleaving, any loss: streams deliver what was written, and end as they were ended", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 250 }), (steps) => {
      const world = new World();
      for (const one of steps) world.step(one);
      world.settle();
    }),
    { numRuns: runs(150), endOnFailure: true },
  );
});
