/** Signatures of webhooks, made by the providers' own libraries. */
import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { describe, it } from "node:test";
import { sign as signByGitHub } from "@octokit/webhooks-methods";
import fc from "fast-check";
import { Webhook } from "standardwebhooks";
import Stripe from "stripe";
import {
  formatVerification,
  type Judgement,
  judge,
  parseVerification,
  type Signed,
  secretProblem,
  slackChallenge,
  type Verification,
} from "../../../src/edge/inboxes/signature.ts";
import type { Header } from "../../../src/requests/index.ts";

const NOW = Date.UTC(2026, 10, 1);
const SECONDS = NOW / 1000;
const MINUTES_5 = 300;
const DAY = 24 * 3600_000;
const body = Buffer.from('{"event":"paid","name":"Zoë"}');
const stripe = new Stripe("sk_test_x");

function verification(text: string): Verification {
  const parsed = parseVerification(text);
  assert.ok(parsed.ok, text);
  return parsed.value;
}

/** A request as a provider signs it at a time, in seconds. */
interface Provider {
  readonly verify: string;
  readonly secret: string;
  readonly other: string;
  readonly isTimed: boolean;
  sign(secret: string, octets: Uint8Array, time: number): Promise<Header[]>;
}

const standardSecret = () => `whsec_${randomBytes(24).toString("base64")}`;

const PROVIDERS: Readonly<Record<string, Provider>> = {
  github: {
    verify: "github",
    secret: "It's a Secret",
    other: "another secret",
    isTimed: false,
    async sign(secret, octets) {
      const signature = await signByGitHub(secret, Buffer.from(octets).toString());
      return [
        ["x-github-event", "push"],
        ["x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"],
        ["x-hub-signature-256", signature],
      ];
    },
  },
  stripe: {
    verify: "stripe",
    secret: "whsec_test_secret",
    other: "whsec_other_secret",
    isTimed: true,
    async sign(secret, octets, timestamp) {
      const payload = Buffer.from(octets).toString();
      return [["stripe-signature", stripe.webhooks.generateTestHeaderString({ payload, secret, timestamp })]];
    },
  },
  // As Slack documents it: no library of Slack signs.
  slack: {
    verify: "slack",
    secret: "8f742231b10e8888abcd99yyyzzz85a5",
    other: "8f742231b10e8888abcd99yyyzzz85a6",
    isTimed: true,
    async sign(secret, octets, time) {
      const mac = createHmac("sha256", secret).update(`v0:${time}:`).update(octets).digest("hex");
      return [
        ["x-slack-request-timestamp", String(time)],
        ["x-slack-signature", `v0=${mac}`],
      ];
    },
  },
  standard: {
    verify: "standard",
    secret: standardSecret(),
    other: standardSecret(),
    isTimed: true,
    async sign(secret, octets, time) {
      const id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
      const signature = new Webhook(secret).sign(id, new Date(time * 1000), Buffer.from(octets).toString());
      return [
        ["webhook-id", id],
        ["webhook-timestamp", String(time)],
        ["webhook-signature", signature],
      ];
    },
  },
  hmac: {
    verify: "hmac:X-Shop-Hmac,sha512,base64,v2=,X-Shop-Id",
    secret: "shared secret",
    other: "other secret",
    isTimed: false,
    async sign(secret, octets) {
      return [
        ["x-shop-id", "1"],
        ["x-shop-hmac", `v2=${createHmac("sha512", secret).update(octets).digest("base64")}`],
      ];
    },
  },
};

async function judged(provider: Provider, secrets: readonly string[], signed: Signed, now = NOW): Promise<Judgement> {
  return judge(verification(provider.verify), secrets, signed, now);
}

function markOf(judgement: Judgement): string {
  assert.ok(judgement.ok && judgement.mark !== undefined);
  return judgement.mark.text;
}

function reasonOf(judgement: Judgement): string {
  return judgement.ok ? "ok" : judgement.reason;
}

for (const [name, provider] of Object.entries(PROVIDERS)) {
  const { secret, other, isTimed } = provider;
  describe(`a request that ${name} has signed`, () => {
    it("is admitted with the secret that it was signed with, also beside another one", async () => {
      const headers = await provider.sign(secret, body, SECONDS);
      for (const secrets of [[secret], [other, secret], [secret, other]]) {
        assert.equal(reasonOf(await judged(provider, secrets, { headers, body })), "ok");
      }
    });

    it("is refused with another secret, with none, and with another body", async () => {
      const headers = await provider.sign(secret, body, SECONDS);
      assert.equal(reasonOf(await judged(provider, [other], { headers, body })), "SignatureWrong");
      assert.equal(reasonOf(await judged(provider, [], { headers, body })), "SignatureWrong");
      const changed = Buffer.concat([body, Buffer.from(" ")]);
      assert.equal(reasonOf(await judged(provider, [secret], { headers, body: changed })), "SignatureWrong");
    });

    it("is refused without each of its headers but those about the delivery", async () => {
      const headers = await provider.sign(secret, body, SECONDS);
      const needed = headers.filter(([header]) => !/github-event|delivery|shop-id/.test(header));
      for (const [missing] of needed) {
        const rest = headers.filter(([header]) => header !== missing);
        assert.equal(reasonOf(await judged(provider, [secret], { headers: rest, body })), "SignatureMissing", missing);
      }
    });

    it("is the same request if the same was signed, whichever of two secrets was used", async () => {
      const [first, again] = [await provider.sign(secret, body, SECONDS), await provider.sign(other, body, SECONDS)];
      const secrets = [secret, other];
      const mark = markOf(await judged(provider, secrets, { headers: first, body }));
      assert.equal(markOf(await judged(provider, secrets, { headers: again, body })), mark);
      const next = Buffer.from("another");
      const headers = await provider.sign(secret, next, SECONDS);
      assert.notEqual(markOf(await judged(provider, secrets, { headers, body: next })), mark);
    });

    if (isTimed) {
      it("is admitted within five minutes of its time, before and after, and no longer", async () => {
        const headers = await provider.sign(secret, body, SECONDS);
        for (const seconds of [-MINUTES_5, MINUTES_5]) {
          const at = NOW + seconds * 1000;
          assert.equal(reasonOf(await judged(provider, [secret], { headers, body }, at)), "ok", String(seconds));
        }
        for (const seconds of [-MINUTES_5 - 1, MINUTES_5 + 1]) {
          const at = NOW + seconds * 1000;
          assert.equal(reasonOf(await judged(provider, [secret], { headers, body }, at)), "SignatureNotCurrent");
        }
      });

      it("is remembered until its time is over", async () => {
        const headers = await provider.sign(secret, body, SECONDS);
        const judgement = await judged(provider, [secret], { headers, body }, NOW - 60_000);
        assert.equal(judgement.ok && judgement.mark?.until, NOW + MINUTES_5 * 1000);
      });
    } else {
      it("is remembered for a day, and another delivery is another request", async () => {
        const headers = await provider.sign(secret, body, SECONDS);
        const judgement = await judged(provider, [secret], { headers, body });
        assert.equal(judgement.ok && judgement.mark?.until, NOW + DAY);
        const others = headers.map(([header, text]): Header => [header, /delivery|shop-id/.test(header) ? "2" : text]);
        const mark = markOf(await judged(provider, [secret], { headers: others, body }));
        assert.notEqual(mark, markOf(judgement));
      });
    }

    it("is admitted with no other signature, however it is written", async () => {
      const headers = await provider.sign(secret, body, SECONDS);
      const text = fc.oneof(fc.string(), fc.stringMatching(/^(sha256=|v1=|v0=|v1,|v2=|t=)?[0-9a-fA-F+/=]{0,130}$/));
      await fc.assert(
        fc.asyncProperty(fc.nat(headers.length - 1), text, async (at, written) => {
          const header = headers[at]?.[0] ?? "";
          if (/github-event|delivery|shop-id/.test(header)) return;
          const changed = headers.map(([one, value], index): Header => [one, index === at ? written : value]);
          const same = headers[at]?.[1].toLowerCase() === written.toLowerCase();
          if (!same) assert.notEqual(reasonOf(await judged(provider, [secret], { headers: changed, body })), "ok");
        }),
        { numRuns: 200 },
      );
    });
  });
}

it("Stripe may send several signatures while it rotates, and older schemes beside them", async () => {
  const time = SECONDS;
  const mac = (secret: string) => createHmac("sha256", secret).update(`${time}.`).update(body).digest("hex");
  const headers: Header[] = [["stripe-signature", `t=${time}, v1=${mac("old-secret")},v1=${mac("new-secret")},v0=00`]];
  const { stripe: provider } = PROVIDERS;
  assert.ok(provider);
  assert.equal(reasonOf(await judged(provider, ["new-secret"], { headers, body })), "ok");
  const onlyOld: Header[] = [["stripe-signature", `t=${time},v0=${mac("new-secret")}`]];
  assert.equal(reasonOf(await judged(provider, ["new-secret"], { headers: onlyOld, body })), "SignatureMissing");
});

it("without verification everything is admitted, and nothing is remembered", async () => {
  assert.deepEqual(await judge({ kind: "none" }, [], { headers: [], body }, NOW), { ok: true, mark: undefined });
});

it("the challenge of Slack is found in its own requests only", () => {
  const challenge = Buffer.from(JSON.stringify({ type: "url_verification", token: "x", challenge: "3eZbrw1a" }));
  assert.equal(slackChallenge({ kind: "slack" }, challenge), "3eZbrw1a");
  assert.equal(slackChallenge({ kind: "none" }, challenge), undefined);
  const long = JSON.stringify({ type: "url_verification", challenge: "x".repeat(20_000) });
  assert.equal(slackChallenge({ kind: "slack" }, Buffer.from(long)), undefined, "which is not read as JSON");
  for (const text of [
    "",
    "null",
    "[]",
    "payload=%7B%7D",
    '{"type":"url_verification","challenge":1}',
    '{"type":"x"}',
  ]) {
    assert.equal(slackChallenge({ kind: "slack" }, Buffer.from(text)), undefined, text);
  }
});

describe("a verification", () => {
  it("is read from its text, and written as it", () => {
    for (const text of [
      "github",
      "none",
      "hmac:x-a,sha1,hex,",
      "hmac:x-a,sha256,base64,v1=",
      "hmac:x-a,sha384,hex,,x-id",
    ]) {
      assert.equal(formatVerification(verification(text)), text);
    }
    assert.equal(formatVerification(verification("hmac:X-A,sha256,hex")), "hmac:x-a,sha256,hex,");
  });

  it("that is unknown is refused with what to write", () => {
    for (const text of [
      "",
      "GitHub",
      "hmac",
      "hmac:",
      "hmac:x y,sha256,hex",
      "hmac:x,md5,hex",
      "hmac:x,toString,hex",
      "hmac:x,sha256,base32",
      "hmac:x,sha256,hex,a b",
      "hmac:x,sha256,hex,a,b c",
      "hmac:x,sha256,hex,a,b,c",
    ]) {
      const parsed = parseVerification(text);
      assert.ok(!parsed.ok && parsed.problems.length > 20, text);
    }
  });

  it("of Standard Webhooks has a secret in base64", () => {
    assert.equal(secretProblem({ kind: "standard" }, standardSecret()), undefined);
    for (const secret of ["whsec_", "whsec_?", "plain secret"]) {
      assert.match(secretProblem({ kind: "standard" }, secret) ?? "", /whsec_/);
    }
    assert.equal(secretProblem({ kind: "github" }, "any text"), undefined);
    assert.match(secretProblem({ kind: "none" }, "any text") ?? "", /no secret/);
  });
});
