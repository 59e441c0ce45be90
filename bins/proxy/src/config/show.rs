//! The config in force, under the keys it was read from, for `check`.

use podkit_cli::Effective;
use podkit_cli::units::{show_duration, show_size};
use serde_json::{Value, json};

use super::{Config, Listener, Upstream};

impl Effective for Config {
    /// A `--forward` shows as the listener and upstream that it stands for, so the output is a config file.
    fn effective(&self) -> Value {
        json!({
            "admin": self.admin.map_or_else(|| "off".to_owned(), |address| address.to_string()),
            "listeners": self.listeners.iter().map(listener).collect::<Vec<_>>(),
            "upstreams": self.upstreams.iter().map(|one| upstream(one)).collect::<Vec<_>>(),
            "shutdown": {
                "deadline": show_duration(self.shutdown.deadline),
                "quiet": show_duration(self.shutdown.quiet),
            },
        })
    }
}

fn listener(listener: &Listener) -> Value {
    let (limits, timeouts) = (&listener.limits, &listener.timeouts);
    let mut value = json!({
        "name": listener.name,
        "direction": listener.direction.as_str(),
        "listen": listener.listen.to_string(),
        "protocol": listener.protocol.as_str(),
        "to": listener.upstream.name,
        "limits": {
            "connections": limits.connections,
            "header_size": show_size(limits.header_size as u64),
            "headers": limits.headers,
        },
        "timeouts": {
            "header": show_duration(timeouts.header),
            "idle": show_duration(timeouts.idle),
            "request": show_duration(timeouts.request),
        },
    });
    if let Some(body) = limits.body {
        value["limits"]["body"] = show_size(body).into();
    }
    value
}

fn upstream(upstream: &Upstream) -> Value {
    json!({
        "name": upstream.name,
        "address": upstream.address(),
        "connect_timeout": show_duration(upstream.connect_timeout),
        "pool": {
            "idle_timeout": show_duration(upstream.pool.idle_timeout),
            "max_idle": upstream.pool.max_idle,
        },
    })
}
