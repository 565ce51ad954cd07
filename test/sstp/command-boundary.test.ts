/** Finding the ends of commands without decoding them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { CommandWalker, encode, wholeCommands } from "../../src/sstp/index.ts";
import { anyCommand, cut, joined, versions } from "./support.ts";

const streams = fc.constantFrom(...versions).chain((version) =>
  fc.array(
    anyCommand(version).map((command) => encode(command, version)),
    { minLength: 1, maxLength: 12 },
  ),
);
const places = fc.array(fc.nat(), { maxLength: 20 });

/** The offsets at which a command ends. */
function endsOf(commands: readonly Uint8Array[]): number[] {
  let at = 0;
  return commands.map((command) => {
    at += command.length;
    return at;
  });
}

test("a walker finds exactly the command boundaries, however the stream is split", () => {
  fc.assert(
    fc.property(streams, places, fc.nat(30), (commands, seeds, skip) => {
      const stream = joined([new Uint8Array(skip).fill(0xff), ...commands]);
      const ends = new Set([skip, ...endsOf(commands).map((end) => end + skip)]);
      const walker = new CommandWalker(skip);
      assert.equal(walker.between, skip === 0);
      let at = 0;
      for (const piece of cut(stream, seeds)) {
        walker.push(piece);
        at += piece.length;
        assert.equal(walker.between, ends.has(at), `at ${at}`);
      }
    }),
  );
});

test("a walker fed octet by octet finds every boundary", () => {
  fc.assert(
    fc.property(streams, (commands) => {
      const stream = joined(commands);
      const ends = new Set(endsOf(commands));
      const walker = new CommandWalker();
      for (let at = 0; at < stream.length; at += 1) {
        walker.push(stream.subarray(at, at + 1));
        assert.equal(walker.between, ends.has(at + 1));
      }
    }),
    { numRuns: 30 },
  );
});

test("whole commands are as many as fit, and at least one", () => {
  fc.assert(
    fc.property(streams, fc.nat(5000), (commands, max) => {
      const ends = endsOf(commands);
      const fitting = ends.filter((end) => end <= max).at(-1);
      assert.equal(wholeCommands(joined(commands), max), fitting ?? ends[0]);
    }),
  );
});

test("a stream taken in whole commands is complete", () => {
  fc.assert(
    fc.property(streams, fc.integer({ min: 1, max: 3000 }), (commands, max) => {
      let rest = joined(commands);
      const taken: Uint8Array[] = [];
      while (rest.length > 0) {
        const length = wholeCommands(rest, max);
        taken.push(rest.subarray(0, length));
        rest = rest.subarray(length);
      }
      assert.deepEqual(joined(taken), joined(commands));
    }),
  );
});

test("octets that are not commands end the walk too", () => {
  const broken = fc.oneof(
    fc.uint8Array({ maxLength: 500, size: "max" }),
    fc.nat(500).map((length) => new Uint8Array(length)),
    // A real stream with octets changed: lengths too short, too long, or 0.
    fc
      .tuple(streams, fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 10 }))
      .map(([commands, changes]) => {
        const stream = joined(commands);
        for (const [place, value] of changes) stream[place % stream.length] = value;
        return stream;
      }),
  );
  fc.assert(
    fc.property(broken, places, fc.nat(300), (octets, seeds, max) => {
      const whole = new CommandWalker();
      whole.push(octets);
      const pieces = new CommandWalker();
      for (const piece of cut(octets, seeds)) pieces.push(piece);
      assert.equal(pieces.between, whole.between, "splits make no difference");
      const length = wholeCommands(octets, max);
      assert.ok(length <= octets.length);
      assert.ok(length > 0 || octets.length === 0, "a walker that finds nothing would loop for ever");
    }),
  );
});

test("a CommandLength of 0 counts as a bare header", () => {
  const zeros = new Uint8Array(9);
  const walker = new CommandWalker();
  walker.push(zeros.subarray(0, 4));
  assert.equal(walker.between, false);
  walker.push(zeros.subarray(4, 6));
  assert.equal(walker.between, true);
  assert.equal(wholeCommands(zeros, 5), 3);
});
