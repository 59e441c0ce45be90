//! Whole files with faults that show only with several settings in view.

use super::Row;

pub(super) const WHOLE: &[Row] = &[
    ("no listener", "listeners: []\n", ":1: listeners: there is no listener"),
    (
        "nothing",
        "{}\n",
        ":1: forward: there is nothing to carry\nhint: give `--forward 'http://0.0.0.0:8080=http://127.0.0.1:8081'`, or `listeners:` in a config file",
    ),
    ("not a list", "listeners: {name: web}\n", ":1: listeners: must be a list, and is a mapping"),
    (
        "no name and no address",
        "listeners: [{to: app}]\nupstreams: [{name: app}]\n",
        ":1: listeners[0].listen: is required\n:1: listeners[0].name: is required\n:2: upstreams[0].address: is required",
    ),
    (
        "no upstream",
        "listeners: [{name: web, listen: \":8080\", to: ap}]\nupstreams: [{name: app, address: \"127.0.0.1:8081\"}]\n",
        ":1: listeners[0].to: \"ap\" is not the name of an upstream\nhint: there are: app",
    ),
    (
        "a host to listen on",
        "listeners: [{name: web, listen: \"localhost:8080\", to: app}]\nupstreams: [{name: app, address: \"127.0.0.1:8081\"}]\n",
        ":1: listeners[0].listen: \"localhost:8080\" is not an address to listen on\nhint: write `0.0.0.0:8080`, `[::]:8080` or `unix:/path`",
    ),
    (
        "a relative socket",
        "listeners: [{name: web, listen: \"unix:app.sock\", to: app}]\nupstreams: [{name: app, address: \"127.0.0.1:8081\"}]\n",
        ":1: listeners[0].listen: the socket path \"app.sock\" is not absolute\nhint: write `unix:/run/app/app.sock`: what a relative path means depends on who reads it",
    ),
    (
        "clients of a socket have no address",
        "listeners: [{name: web, listen: \"unix:/run/web.sock\", to: app, limits: {peer_rate: 5/s}}]\nupstreams: [{name: app, address: \"127.0.0.1:8081\"}]\n",
        ":1: listeners[0].limits.peer_rate: limits each client's address, and the clients of a unix socket have none\nhint: use `rate`",
    ),
    (
        "who asks from within is not told",
        "listeners: [{name: web, listen: \"127.0.0.1:8080\", to: app, direction: outbound, forwarded: both}]\nupstreams: [{name: app, address: \"127.0.0.1:8081\"}]\n",
        ":1: listeners[0].forwarded: is for inbound listeners: nobody outside is told which process of the pod asked\nhint: remove the key",
    ),
    (
        "no port",
        "listeners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\nupstreams: [{name: app, address: \"127.0.0.1\"}]\n",
        ":2: upstreams[0].address: \"127.0.0.1\" is not `host:port`\nhint: write `db:5432`, `[::1]:5432`, `unix:/path` or `srv:_http._tcp.name`",
    ),
    (
        "a URL as address",
        "listeners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\nupstreams: [{name: app, address: \"http://127.0.0.1:8081\"}]\n",
        ":2: upstreams[0].address: \"http://127.0.0.1:8081\" is not `host:port`\nhint: write it without a scheme; for https add `tls: {}`",
    ),
    (
        "a relative socket of the app",
        "listeners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\nupstreams: [{name: app, address: \"unix:app.sock\"}]\n",
        ":2: upstreams[0].address: the socket path \"app.sock\" is not absolute\nhint: write `unix:/run/app/app.sock`: what a relative path means depends on who reads it",
    ),
    (
        "half an SRV name",
        "listeners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\nupstreams: [{name: app, address: \"srv:shop.default.svc\"}]\n",
        ":2: upstreams[0].address: \"shop.default.svc\" is not the name of an SRV record\nhint: write `srv:_http._tcp.shop.default.svc.cluster.local`",
    ),
    (
        "an SRV name of another protocol",
        "listeners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\nupstreams: [{name: app, address: \"srv:_dns._udp.kube-dns\"}]\n",
        ":2: upstreams[0].address: \"_dns._udp.kube-dns\" is not the name of an SRV record\nhint: write `srv:_http._tcp.shop.default.svc.cluster.local`",
    ),
    (
        "TLS to a socket",
        "listeners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\nupstreams: [{name: app, address: \"unix:/run/app.sock\", tls: {}}]\n",
        ":2: upstreams[0].tls: needs `server_name`: no certificate is made out to the upstream's address\nhint: add the name that the certificate has: `server_name: db.prod`",
    ),
    (
        "TLS to a name that no certificate has",
        "listeners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\nupstreams: [{name: app, address: \"-shop-:443\", tls: {}}]\n",
        ":2: upstreams[0].tls: needs `server_name`: no certificate is made out to the upstream's address\nhint: add the name that the certificate has: `server_name: db.prod`",
    ),
    (
        "HTTP/2 in bytes",
        "listeners: [{name: web, listen: \"0.0.0.0:8080\", to: app, protocol: tcp}]\nupstreams: [{name: app, address: \"127.0.0.1:8081\", protocol: http2}]\n",
        ":1: listeners[0].to: a tcp listener carries bytes as they are, and the upstream \"app\" has `protocol: http2`\nhint: remove one of the two `protocol` keys",
    ),
    (
        "one name twice",
        "listeners:\n- {name: a, listen: \":8080\", to: app}\n- {name: a, listen: \":8081\", to: app}\nupstreams:\n- {name: app, address: \"127.0.0.1:1\"}\n- {name: app, address: \"127.0.0.1:2\"}\n",
        ":3: listeners[1].name: \"a\" is the name of another listener\n:6: upstreams[1].name: \"app\" is the name of another upstream",
    ),
    (
        "one address twice",
        "listeners:\n- {name: a, listen: \"127.0.0.1:8080\", to: app}\n- {name: b, listen: \"127.0.0.1:8080\", to: app}\nupstreams: [{name: app, address: \"127.0.0.1:8081\"}]\n",
        ":3: listeners[1].listen: 127.0.0.1:8080 is taken by listener \"a\"\nhint: give each an address of its own",
    ),
    (
        "one socket twice",
        "listeners:\n- {name: a, listen: \"unix:/run/a.sock\", to: app}\n- {name: b, listen: \"unix:/run/a.sock\", to: app}\nupstreams: [{name: app, address: \"127.0.0.1:8081\"}]\n",
        ":3: listeners[1].listen: unix:/run/a.sock is taken by listener \"a\"\nhint: give each an address of its own",
    ),
    (
        "all addresses, and one of them",
        "listeners:\n- {name: a, listen: \"0.0.0.0:8080\", to: app}\n- {name: b, listen: \"127.0.0.1:8080\", to: app}\nupstreams: [{name: app, address: \"127.0.0.1:8081\"}]\n",
        ":3: listeners[1].listen: 127.0.0.1:8080 is taken by listener \"a\", which listens on 0.0.0.0:8080\nhint: give each an address of its own",
    ),
    (
        "one address, and all of them",
        "listeners:\n- {name: a, listen: \"127.0.0.1:8080\", to: app}\n- {name: b, listen: \"[::]:8080\", to: app}\nupstreams: [{name: app, address: \"127.0.0.1:8081\"}]\n",
        ":3: listeners[1].listen: [::]:8080 takes 127.0.0.1:8080 too, which is taken by listener \"a\"\nhint: give each an address of its own",
    ),
    (
        "the admin port",
        "admin: 127.0.0.1:8080\nlisteners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\nupstreams: [{name: app, address: \"127.0.0.1:8081\"}]\n",
        ":2: listeners[0].listen: 0.0.0.0:8080 takes 127.0.0.1:8080 too, which is taken by the admin port\nhint: give each an address of its own",
    ),
    (
        "its own upstream",
        "listeners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\nupstreams: [{name: app, address: \"127.0.0.1:8080\"}]\n",
        ":1: listeners[0].to: 0.0.0.0:8080 is its own upstream: each request would come back for ever\nhint: give the address where the app itself listens",
    ),
    (
        "its own upstream by name",
        "listeners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\nupstreams: [{name: app, address: \"localhost:8080\"}]\n",
        ":1: listeners[0].to: 0.0.0.0:8080 is its own upstream: each request would come back for ever\nhint: give the address where the app itself listens",
    ),
    (
        "its own socket",
        "listeners: [{name: web, listen: \"unix:/run/a.sock\", to: app}]\nupstreams: [{name: app, address: \"unix:/run/a.sock\"}]\n",
        ":1: listeners[0].to: unix:/run/a.sock is its own upstream: each request would come back for ever\nhint: give the address where the app itself listens",
    ),
    (
        "a circle",
        "listeners:\n- {name: a, listen: \"127.0.0.1:1\", to: b}\n- {name: b, listen: \"127.0.0.1:2\", to: a}\nupstreams:\n- {name: a, address: \"127.0.0.1:1\"}\n- {name: b, address: \"127.0.0.1:2\"}\n",
        ":3: listeners[1].to: each request would come back to 127.0.0.1:2 for ever, through listener \"a\"\nhint: give the address where the app itself listens",
    ),
    (
        "no workers",
        "workers: 0\nlisteners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\nupstreams: [{name: app, address: \"127.0.0.1:8081\"}]\n",
        ":1: workers: \"0\" is not a whole number of at least 1\nhint: write `auto`, or how many threads carry traffic",
    ),
    (
        "too many workers",
        "workers: 65\nlisteners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\nupstreams: [{name: app, address: \"127.0.0.1:8081\"}]\n",
        ":1: workers: \"65\" is more than 64",
    ),
    (
        "workers in words",
        "workers: all\nlisteners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\nupstreams: [{name: app, address: \"127.0.0.1:8081\"}]\n",
        ":1: workers: \"all\" is not a whole number of at least 1\nhint: write `auto`, or how many threads carry traffic",
    ),
    (
        "a certificate for nobody",
        "tls_cert: /tls/tls.crt\nlisteners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\nupstreams: [{name: app, address: \"127.0.0.1:8081\"}]\n",
        ":1: tls_cert: is for `--forward 'https://…=…'`, and there is none\nhint: what `listeners` has takes `tls: {cert: …, key: …}`",
    ),
    (
        "a stop that never ends",
        "shutdown: {deadline: 1s, quiet: 1s}\nlisteners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\nupstreams: [{name: app, address: \"127.0.0.1:8081\"}]\n",
        ":1: shutdown.quiet: 1s is not shorter than the deadline, 1s\nhint: a stop could never end cleanly: lower the one or raise the other",
    ),
    (
        "no health of two kinds",
        "upstreams: [{name: app, address: \"127.0.0.1:8081\", health: no}]\nlisteners: [{name: web, listen: \"0.0.0.0:8080\", to: app}]\n",
        ":1: upstreams[0].health: \"no\" is neither a mapping nor `off`\nhint: write `health: {path: /healthz}`",
    ),
];
