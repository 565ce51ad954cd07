/** `grooveway doctor`: tries every way to an edge, and says what the network lets through. */
import { writeFileSync } from "node:fs";
import { diagnose } from "../../device/diagnosis/index.ts";
import { tokenFrom } from "../../device/token-source.ts";
import { jsonLine, printable } from "../../lib/printable.ts";
import { CommandError } from "../command-error.ts";
import { defaultAddress, ownAddress } from "../device-options.ts";
import { pageOf } from "../doctor/page.ts";
import { jsonOf } from "../doctor/report.ts";
import { tableOf } from "../doctor/table.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { type Command, parse, unexpected, usage } from "../parse-arguments.ts";
import { edgeUrl } from "../profiles/config-toml.ts";
import { PROFILE_OPTION, withProfile } from "../profiles/profile-options.ts";
import { PROXY_OPTIONS, proxiesOf } from "../proxy-options.ts";
import { readAuthorities } from "../tls.ts";

export const doctorCommand: Command = {
  help: `Usage: grooveway doctor [URL] [options]

Tries every way to the edge at URL side by side: each transport, directly and through the proxies that are set. Prints for
each whether it works and, if not, why and what to open; checks DNS, clock, TLS, login pages, the edge and the token; and
recommends a way. Ends with 0 if any way works. It disturbs no device that is running.

Without URL it is the edge of the profile. The token goes to the edge only over verified TLS. The output contains no token,
password or page of a server, so that it can be handed on.

  --proxy URL|@FILE     try this proxy only: http://HOST:PORT, https://, socks5:// or socks4://, several for a chain;
                        pac+URL for a PAC file, direct for none. Default: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY,
                        then GROOVEWAY_PAC, then the settings of the system
  --proxy-credentials FILE
                        user names and passwords of proxies, each as a line http://USER:PASSWORD@HOST:PORT
  --relay HOST[:PORT]   also try SSTP straight to this relay, past the edge; needs --allow-plain beside an https edge
  --allow-plain         also try plain HTTP, and let the token go over it
  --profile NAME        the profile whose edge, address and token to use; default GROOVEWAY_PROFILE, or default
  --as IDENTITY/DEVICE  this device's address; default that of the profile, or ${defaultAddress()}
  --token TOKEN|@FILE   token to check, and to measure rates with; default the environment variable GROOVEWAY_TOKEN
  --ca FILE             certificate authorities to trust in addition to the system's (PEM)
  --report FILE         also write a page (HTML) for the administrator of the firewall
  --json                print JSON

Example: grooveway doctor https://edge.example.com --report firewall.html`,

  async run(args) {
    const { values, positionals } = parse("doctor", args, {
      ...PROFILE_OPTION,
      ...PROXY_OPTIONS,
      relay: { type: "string" },
      "allow-plain": { type: "boolean", default: false },
      as: { type: "string" },
      token: { type: "string" },
      ca: { type: "string" },
      report: { type: "string" },
      json: { type: "boolean", default: false },
    });
    const [url, ...more] = positionals;
    if (more.length > 0) throw unexpected("doctor", more[0]);
    const edge = url === undefined ? undefined : edgeOf(url);
    const { GROOVEWAY_TOKEN } = process.env;
    const { report, json, relay } = values;
    const completed = withProfile({ ...values, edge }, { inherited: GROOVEWAY_TOKEN, most: 1 });
    if (completed.edge === undefined && relay === undefined) {
      throw usage("doctor", "the URL is missing: write https://edge.example.com, or log in first (grooveway login)");
    }
    const diagnosis = await diagnose({
      edge: completed.edge,
      relay,
      address: completed.as === undefined ? defaultAddress() : ownAddress("doctor", completed.as),
      token: await tokenFrom(completed.token, new AbortController().signal),
      allowPlain: values["allow-plain"],
      ca: completed.ca === undefined ? undefined : readAuthorities(completed.ca),
      // The table shows the proxies.
      proxies: proxiesOf("doctor", values, { onChoice: () => undefined }),
      onStart: (ways) => {
        if (!json && process.stderr.isTTY) console.error(`grooveway: trying ${ways} ways, for up to 6 s each`);
      },
    });
    console.log(json ? jsonLine(jsonOf(diagnosis)) : tableOf(diagnosis));
    if (report !== undefined) write(report, pageOf(diagnosis));
    if (report !== undefined && !json) console.log(`The page for the administrator is in ${printable(report)}.`);
    return (diagnosis.recommended === undefined ? EXIT_CODES.ConnectFailed : EXIT_CODES.Done).status;
  },
};

/** The URL of an edge, without credentials, query and fragment, which no edge has and which may be secret. */
function edgeOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const edge = url === undefined ? undefined : edgeUrl(`${url.origin}${url.pathname}`);
  // The text itself may be a secret.
  if (edge === undefined) throw usage("doctor", "the URL is not that of an edge: write https://edge.example.com");
  return edge;
}

function write(path: string, page: string): void {
  try {
    writeFileSync(path, page);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new CommandError(
      "CannotWrite",
      `cannot write ${printable(path)} (${code ?? error}): choose another file for --report`,
    );
  }
}
