/**
 * `grooveway deploy check`: looks at the configuration of an edge before it is deployed to Cloudflare. `grooveway deploy
 * cost`: what it will cost there.
 */
import { readFileSync } from "node:fs";
import { parse as parseToml } from "smol-toml";
import { jsonLine, printable, visible } from "../../lib/printable.ts";
import { CommandError } from "../command-error.ts";
import { checkDeployment } from "../deploy/check-deployment.ts";
import { costReport, costTable, DEVICE_COUNTS } from "../deploy/cost-table.ts";
import { wranglerConfig } from "../local-edge/wrangler-config.ts";
import { type Command, parse, readText, unexpected, usage } from "../parse-arguments.ts";

export const deployCommand: Command = {
  help: `Usage: grooveway deploy check [options]
       grooveway deploy cost [--devices N] [--json]

check looks at the configuration of an edge before it is deployed to Cloudflare, and refuses what is insecure or
contradictory. cost prints what devices of several kinds cost there in a month: a model, with its assumptions. Both ask
nobody and change nothing.

  --config FILE  the configuration; default wrangler.toml
  --env NAME     the environment that is deployed, [env.NAME] of the file
  --secrets FILE what npx wrangler secret list prints; - reads it from standard input. Without it, what depends on a secret
                 is not judged
  --devices N    how many devices cost is for; default 10, 1,000 and 100,000
  --json         print a JSON object

Example: npx wrangler secret list | grooveway deploy check --secrets - && npx wrangler deploy`,

  async run(args) {
    const { values, positionals } = parse("deploy", args, {
      config: { type: "string", default: "wrangler.toml" },
      env: { type: "string" },
      secrets: { type: "string" },
      devices: { type: "string" },
      json: { type: "boolean", default: false },
    });
    const [action, ...more] = positionals;
    if (action !== "check" && action !== "cost") throw usage("deploy", "write check or cost after deploy");
    if (more.length > 0) throw unexpected("deploy", more[0]);
    if (action === "cost") {
      const counts = values.devices === undefined ? DEVICE_COUNTS : [countOf(values.devices)];
      if (values.json) console.log(jsonLine(costReport(counts)));
      else console.log(costTable(counts));
      return 0;
    }
    const { config: file, env: environment } = values;
    const config = read(file, environment);
    const secrets = values.secrets === undefined ? undefined : secretsIn(values.secrets);
    const findings = checkDeployment({ config, environment, secrets, own: wranglerConfig() });
    if (values.json) console.log(jsonLine({ ok: findings.length === 0, findings }));
    if (findings.length > 0) {
      if (!values.json) for (const { code, text } of findings) console.error(`${visible(text)} [${code}]`);
      const count = findings.length === 1 ? "one finding" : `${findings.length} findings`;
      throw new CommandError("InsecureEdge", `${file} must not be deployed: ${count}`);
    }
    if (!values.json) {
      console.log(`${printable(file)} can be deployed${secrets === undefined ? "; the secrets are not judged" : ""}`);
    }
    return 0;
  },
};

function countOf(text: string): number {
  const count = Number(text);
  if (!/^\d{1,9}$/.test(text) || count === 0) throw usage("deploy", "--devices is not a number of devices such as 500");
  return count;
}

function read(file: string, environment: string | undefined): unknown {
  let config: ReturnType<typeof parseToml>;
  try {
    config = parseToml(readText(file), { maxDepth: 16 });
  } catch (error) {
    if (error instanceof CommandError) throw error;
    throw new CommandError("ConfigUnusable", `${file} is not TOML: correct it`);
  }
  const environments = (config.env ?? {}) as object;
  if (environment !== undefined && !Object.hasOwn(environments, environment)) {
    throw usage("deploy", `${file} has no [env.${environment}]`);
  }
  return config;
}

/** Names of secrets in the list of wrangler. */
function secretsIn(file: string): string[] {
  let list: unknown;
  try {
    list = JSON.parse(file === "-" ? readFileSync(0, "utf8") : readText(file));
  } catch (error) {
    if (error instanceof CommandError) throw error;
    list = undefined;
  }
  if (!Array.isArray(list)) throw new CommandError("ConfigUnusable", `${file} is not the JSON of wrangler secret list`);
  return list.flatMap((one: unknown) => {
    const { name } = (one ?? {}) as { readonly name?: unknown };
    return typeof name === "string" ? [name] : [];
  });
}
