"""Names below which strangers register their own: nothing may be granted across them.

Owns the guard behind `subdomains`. Must never be used to allow anything.

Known hole: the Public Suffix List (publicsuffix.org) has ten thousand rules and changes weekly, so it is not
here. This refuses every top-level name, the second-level words that registries use under country codes, and
the hosting suffixes that are met most; a suffix beyond those is not recognised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mvm.terms import HostName

_REGISTRY_WORDS = frozenset(
    [
        "ac",
        "co",
        "com",
        "edu",
        "go",
        "gob",
        "gouv",
        "gov",
        "govt",
        "gv",
        "id",
        "idv",
        "info",
        "ltd",
        "me",
        "mil",
        "ne",
        "net",
        "nom",
        "or",
        "org",
        "plc",
        "pub",
        "sch",
        "web",
    ]
)
_COUNTRY_CODE = 2
_HOSTING = frozenset(
    [
        "amazonaws.com",
        "appspot.com",
        "awsapprunner.com",
        "azure-api.net",
        "azureedge.net",
        "azurefd.net",
        "azurewebsites.net",
        "blob.core.windows.net",
        "blogspot.com",
        "cloudapp.azure.com",
        "cloudapp.net",
        "cloudflare.net",
        "cloudfront.net",
        "cloudfunctions.net",
        "code.run",
        "deno.dev",
        "digitaloceanspaces.com",
        "duckdns.org",
        "dyndns.org",
        "elasticbeanstalk.com",
        "elb.amazonaws.com",
        "fastly.net",
        "firebaseapp.com",
        "fly.dev",
        "fly.io",
        "github.dev",
        "github.io",
        "githubpreview.dev",
        "gitlab.io",
        "glitch.me",
        "googleapis.com",
        "googleusercontent.com",
        "hf.space",
        "herokuapp.com",
        "herokussl.com",
        "home.arpa",
        "lhr.life",
        "loca.lt",
        "localhost.run",
        "modal.run",
        "myshopify.com",
        "netlify.app",
        "ngrok-free.app",
        "ngrok-free.dev",
        "ngrok.app",
        "ngrok.dev",
        "ngrok.io",
        "nip.io",
        "no-ip.org",
        "onrender.com",
        "pages.dev",
        "pythonanywhere.com",
        "railway.app",
        "r2.dev",
        "readthedocs.io",
        "render.com",
        "repl.co",
        "replit.app",
        "replit.dev",
        "run.app",
        "s3.amazonaws.com",
        "serveo.net",
        "sslip.io",
        "storage.googleapis.com",
        "streamlit.app",
        "surge.sh",
        "trycloudflare.com",
        "ts.net",
        "uk.com",
        "us.com",
        "vercel.app",
        "vercel.dev",
        "web.app",
        "web.core.windows.net",
        "wordpress.com",
        "workers.dev",
        "workstations.dev",
        "xip.io",
    ]
)


def is_public_suffix(name: HostName) -> bool:
    """Tell whether names right below this one belong to different people.

    Args:
        name: a parsed host name.
    """
    above, dot, last = name.rpartition(".")
    if not dot:
        return True
    if "." not in above and len(last) == _COUNTRY_CODE and above in _REGISTRY_WORDS:
        return True
    return name in _HOSTING
