/** Proxy settings of operating systems, as their tools print them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { askSystem } from "../../../../src/device/transports/proxy/system-settings/ask-system.ts";
import { parseGsettings } from "../../../../src/device/transports/proxy/system-settings/gnome.ts";
import { parseKioslaverc } from "../../../../src/device/transports/proxy/system-settings/kde.ts";
import { parseScutil } from "../../../../src/device/transports/proxy/system-settings/macos.ts";
import type { SystemProxies } from "../../../../src/device/transports/proxy/system-settings/system-proxies.ts";
import { parseRegistry } from "../../../../src/device/transports/proxy/system-settings/windows.ts";

/** Without what is not set. */
const set = (proxies: SystemProxies) =>
  Object.fromEntries(
    Object.entries(proxies).filter(([, value]) => value !== undefined && value !== "" && value !== false),
  );

describe("Windows", () => {
  const registry = (...values: readonly string[]) =>
    set(
      parseRegistry(
        `\r\nHKEY_CURRENT_USER\\Software\\Microsoft\\Windows\\CurrentVersion\\Internet Settings\r\n${values
          .map((value) => `    ${value}\r\n`)
          .join("")}    User Agent    REG_SZ    Mozilla/4.0 (compatible; MSIE 8.0; Win32)\r\n\r\n`,
      ),
    );

  it("has one proxy for all, or one for each protocol", () => {
    const override = "ProxyOverride    REG_SZ    *.corp.example.com;10.*;<local>";
    assert.deepEqual(registry("ProxyEnable    REG_DWORD    0x1", "ProxyServer    REG_SZ    proxy:8080", override), {
      https: "http://proxy:8080",
      http: "http://proxy:8080",
      noProxy: "*.corp.example.com;10.*;<local>",
    });
    const each = "ProxyServer    REG_SZ    http=a:80;https=b:81;ftp=c:82;socks=d:1080";
    assert.deepEqual(registry("ProxyEnable    REG_DWORD    0x00000001", each), {
      https: "http://b:81",
      http: "http://a:80",
      socks: "socks4://d:1080",
    });
  });

  it("has none while it is switched off, and PAC and WPAD apart from that", () => {
    assert.deepEqual(registry("ProxyEnable    REG_DWORD    0x0", "ProxyServer    REG_SZ    proxy:8080"), {});
    assert.deepEqual(
      registry("AutoConfigURL    REG_SZ    http://pac.example.com/p.pac", "AutoDetect    REG_DWORD    0x1"),
      {
        pac: "http://pac.example.com/p.pac",
        isAutomatic: true,
      },
    );
  });
});

describe("macOS", () => {
  const RECORDED = `<dictionary> {
  ExceptionsList : <array> {
    0 : *.local
    1 : 169.254/16
  }
  ExcludeSimpleHostnames : 1
  FTPPassive : 1
  HTTPEnable : 1
  HTTPPort : 8080
  HTTPProxy : proxy.example.com
  HTTPSEnable : 1
  HTTPSPort : 8443
  HTTPSProxy : secure.example.com
  ProxyAutoConfigEnable : 0
  ProxyAutoConfigURLString : http://old.example.com/proxy.pac
  ProxyAutoDiscoveryEnable : 0
  SOCKSEnable : 1
  SOCKSPort : 1080
  SOCKSProxy : 2001:db8::1
}
`;

  it("has a proxy for each protocol", () => {
    assert.deepEqual(set(parseScutil(RECORDED)), {
      https: "http://secure.example.com:8443",
      http: "http://proxy.example.com:8080",
      socks: "socks5://[2001:db8::1]:1080",
      noProxy: "*.local,169.254/16,<local>",
    });
  });

  it("has a PAC file, or looks for one", () => {
    const pac = parseScutil(RECORDED.replace("ProxyAutoConfigEnable : 0", "ProxyAutoConfigEnable : 1"));
    assert.equal(pac.pac, "http://old.example.com/proxy.pac");
    assert.deepEqual(set(parseScutil("<dictionary> {\n  ProxyAutoDiscoveryEnable : 1\n}\n")), { isAutomatic: true });
    assert.deepEqual(set(parseScutil("<dictionary> {\n}\n")), {});
  });
});

describe("GNOME", () => {
  const gsettings = (mode: string, pac = "") => `org.gnome.system.proxy autoconfig-url '${pac}'
org.gnome.system.proxy ignore-hosts ['localhost', '127.0.0.0/8', '::1']
org.gnome.system.proxy mode '${mode}'
org.gnome.system.proxy use-same-proxy true
org.gnome.system.proxy.ftp host ''
org.gnome.system.proxy.ftp port 0
org.gnome.system.proxy.http authentication-password ''
org.gnome.system.proxy.http enabled false
org.gnome.system.proxy.http host 'proxy.example.com'
org.gnome.system.proxy.http port 8080
org.gnome.system.proxy.https host 'secure.example.com'
org.gnome.system.proxy.https port 8443
org.gnome.system.proxy.socks host ''
org.gnome.system.proxy.socks port 0
`;

  it("has proxies by hand, a PAC file, or looks for one", () => {
    assert.deepEqual(set(parseGsettings(gsettings("manual"))), {
      https: "http://secure.example.com:8443",
      http: "http://proxy.example.com:8080",
      noProxy: "localhost,127.0.0.0/8,::1",
    });
    assert.deepEqual(set(parseGsettings(gsettings("auto", "http://pac/p"))), { pac: "http://pac/p" });
    assert.deepEqual(set(parseGsettings(gsettings("auto"))), { isAutomatic: true });
    assert.deepEqual(set(parseGsettings(gsettings("none"))), {});
  });
});

describe("KDE", () => {
  const kioslaverc = (type: number, more = "") => `PersistentProxyConnection=false

[$Version]
update_info=kioslave.upd:kde2.2/r1

[Proxy Settings]
NoProxyFor=localhost,.example.com
Proxy Config Script=http://pac.example.com/proxy.pac
ProxyType=${type}
httpProxy=http://proxy.example.com 3128
httpsProxy[$e]=http://secure.example.com:3129
socksProxy=socks://socks.example.com 1080
${more}
[Other]
ProxyType=0
`;

  it("has proxies by hand, a PAC file, or looks for one", () => {
    assert.deepEqual(set(parseKioslaverc(kioslaverc(1))), {
      https: "http://secure.example.com:3129",
      http: "http://proxy.example.com:3128",
      socks: "socks://socks.example.com:1080",
      noProxy: "localhost,.example.com",
    });
    assert.deepEqual(set(parseKioslaverc(kioslaverc(2))), { pac: "http://pac.example.com/proxy.pac" });
    assert.deepEqual(set(parseKioslaverc(kioslaverc(3))), { isAutomatic: true });
    assert.deepEqual(set(parseKioslaverc(kioslaverc(0))), {});
    assert.equal(parseKioslaverc(kioslaverc(1, "ReversedException=true\n")).noProxy, "");
  });
});

describe("the operating system", () => {
  const ask = async (platform: string, env: Record<string, string>, printed: string | Error) => {
    const asked: string[] = [];
    const answer = (what: string) => {
      asked.push(what);
      return typeof printed === "string" ? Promise.resolve(printed) : Promise.reject(printed);
    };
    const run = (program: string, args: readonly string[]) => answer([program, ...args].join(" "));
    return { found: await askSystem({ platform, env, run, read: answer }), asked };
  };

  it("is asked by its own tool", async () => {
    const windows = await ask("win32", {}, "    AutoDetect    REG_DWORD    0x1\r\n");
    assert.match(windows.asked.join(), /^C:\\Windows\\System32\\reg\.exe query HKCU\\/);
    const elsewhere = await ask("win32", { SystemRoot: "D:\\WINNT" }, "");
    assert.match(elsewhere.asked.join(), /^D:\\WINNT\\System32\\reg\.exe /);
    assert.deepEqual([windows.found?.source, windows.found?.proxies.isAutomatic], ["the settings of Windows", true]);
    assert.deepEqual((await ask("darwin", {}, "")).asked, ["scutil --proxy"]);
    const gnome = await ask("linux", { XDG_CURRENT_DESKTOP: "ubuntu:GNOME" }, "");
    assert.deepEqual(gnome.asked, ["gsettings list-recursively org.gnome.system.proxy"]);
    const kde = await ask("linux", { XDG_CURRENT_DESKTOP: "KDE", HOME: "/home/alice" }, "");
    assert.deepEqual(kde.asked, ["/home/alice/.config/kioslaverc"]);
  });

  it("is not asked on a server, and needs no tool", async () => {
    assert.deepEqual(await ask("linux", {}, ""), { found: undefined, asked: [] });
    assert.equal((await ask("darwin", {}, new Error("ENOENT"))).found, undefined);
  });
});

it("settings are read from any text", () => {
  const words = fc.constantFrom(
    "ProxyServer",
    "REG_SZ",
    "    ",
    "HTTPSEnable : 1",
    "\n",
    "=",
    ";",
    "[Proxy Settings]",
    "ProxyType=1",
    "httpProxy",
    "org.gnome.system.proxy",
    " mode ",
    "'manual'",
    "ExceptionsList : <array> {",
    "}",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(words, fc.string())), (parts) => {
      for (const parse of [parseRegistry, parseScutil, parseGsettings, parseKioslaverc]) {
        for (const value of Object.values(parse(parts.join(""))))
          assert.ok(["string", "boolean", "undefined"].includes(typeof value));
      }
    }),
  );
});
