//! `status` and `probe`: questions to the running instance's admin port, for images without a shell or curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use podkit_http_client::{Response, Target};
use podkit_lifecycle::Deadline;
use serde_json::Value;

use crate::failure::{Exit, Failure, chain};

/// A local answer takes far less; a probe's own timeout is 1 s unless set.
const PATIENCE: Duration = Duration::from_secs(5);

/// The state of the running instance as a table.
pub(crate) fn status(admin: SocketAddr) -> Result<String, Failure> {
    let response = get(admin, "/status")?;
    match serde_json::from_slice::<Value>(&response.body) {
        Ok(value) if response.status == 200 => Ok(table(&value)),
        _ => Err(Failure::new(Exit::Failed, format!("{admin} answered /status with {}", response.status))),
    }
}

/// Exit 0 for a passing probe; for a failing one the reasons.
pub(crate) fn probe(admin: SocketAddr, probe: &str) -> Result<Exit, Failure> {
    let path = match probe {
        "live" => "/livez",
        "ready" => "/readyz",
        _ => "/startupz",
    };
    let response = get(admin, path)?;
    if response.status == 200 {
        return Ok(Exit::Done);
    }
    let reasons = serde_json::from_slice::<Value>(&response.body).ok().and_then(|body| {
        let reasons = body.get("reasons")?.as_array()?;
        Some(reasons.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; "))
    });
    let why = reasons.unwrap_or_else(|| format!("{path} answered {}", response.status));
    Err(Failure::new(Exit::Failed, format!("not {probe}: {why}")))
}

fn get(admin: SocketAddr, path: &str) -> Result<Response, Failure> {
    let address = reachable(admin);
    let target = Target::from(address);
    podkit_http_client::request("GET", &target, path, Deadline::after(PATIENCE)).map_err(|error| {
        Failure::new(Exit::Failed, chain(&error))
            .hint(format!("is the instance running, with `--admin {address}` or another port?"))
    })
}

/// An address to connect to for an address that is listened on: "all" is reached by loopback.
fn reachable(admin: SocketAddr) -> SocketAddr {
    let ip = match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, admin.port())
}

/// Single values as aligned lines, each list of mappings as a table of its own below.
fn table(value: &Value) -> String {
    let (mut lines, mut lists) = (Vec::new(), Vec::new());
    flatten("", value, &mut lines, &mut lists);
    let mut out = columns(&lines);
    for (name, list) in lists {
        push_table(&name, &list.iter().map(|value| Row { of: None, value }).collect::<Vec<_>>(), &mut out);
    }
    out
}

/// A mapping that is a line of a table.
struct Row<'a> {
    /// What it is within, where that is a line of another table.
    of: Option<String>,
    value: &'a Value,
}

/// A table, and below it those of the lists within its mappings, each of all lists of a name together.
fn push_table(name: &str, rows: &[Row<'_>], out: &mut String) {
    let mut header: Vec<String> = Vec::new();
    let mut cells: Vec<Vec<(String, String)>> = Vec::new();
    let mut within: Vec<(String, Vec<Row<'_>>)> = Vec::new();
    for row in rows {
        let (mut flat, mut lists) = (Vec::new(), Vec::new());
        flatten("", row.value, &mut flat, &mut lists);
        let own = flat.into_iter().map(|mut pair| (pair.remove(0), pair.remove(0)));
        let of = row.of.iter().map(|of| ("of".to_owned(), of.clone()));
        let pairs: Vec<_> = of.chain(own).collect();
        for (key, _) in &pairs {
            if !header.contains(key) {
                header.push(key.clone());
            }
        }
        // The first value of a mapping is its name.
        let of = pairs.first().map(|(_, value)| value.clone());
        for (key, list) in lists {
            let path = format!("{name}.{key}");
            let more = list.iter().map(|value| Row { of: of.clone(), value });
            match within.iter_mut().find(|(known, _)| *known == path) {
                Some((_, rows)) => rows.extend(more),
                None => within.push((path, more.collect())),
            }
        }
        cells.push(pairs);
    }
    let cell = |row: &[(String, String)], key: &String| {
        row.iter().find(|(name, _)| name == key).map_or_else(|| "-".to_owned(), |(_, value)| value.clone())
    };
    let mut grid = vec![header.iter().map(|name| name.to_uppercase()).collect()];
    grid.extend(cells.iter().map(|row| header.iter().map(|key| cell(row, key)).collect()));
    out.push_str(&format!("\n{name}\n{}", columns(&grid)));
    for (name, rows) in within {
        push_table(&name, &rows, out);
    }
}

fn flatten<'a>(
    path: &str,
    value: &'a Value,
    lines: &mut Vec<Vec<String>>,
    tables: &mut Vec<(String, &'a Vec<Value>)>,
) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, lines, tables);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => tables.push((path.to_owned(), items)),
        Value::Array(items) => {
            let all: Vec<String> = items.iter().map(plain).collect();
            lines.push(vec![path.to_owned(), if all.is_empty() { "-".to_owned() } else { all.join(", ") }]);
        }
        other => lines.push(vec![path.to_owned(), plain(other)]),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(line.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_state_becomes_lines_and_tables() {
        let value = json!({
            "phase": "running",
            "ledger": {"read": 10},
            "files": [{"file": "/a", "size": 5}, {"file": "/bb", "size": 7, "note": "rotated"}],
            "none": [],
        });
        let want = "phase        running\nledger.read  10\nnone         -\n\n\
                    files\nFILE  SIZE  NOTE\n/a    5     -\n/bb   7     rotated\n";
        assert_eq!(table(&value), want);
    }

    #[test]
    fn a_list_within_a_list_is_a_table_that_names_what_it_is_of() {
        let value = json!({"upstreams": [
            {"name": "app", "endpoints": [{"address": "a:1", "health": "healthy"}, {"address": "b:1", "health": "unhealthy"}]},
            {"name": "db", "endpoints": [{"address": "c:1", "health": "healthy"}]},
        ]});
        let want = "\nupstreams\nNAME\napp\ndb\n\nupstreams.endpoints\n\
                    OF   ADDRESS  HEALTH\napp  a:1      healthy\napp  b:1      unhealthy\ndb   c:1      healthy\n";
        assert_eq!(table(&value), want);
    }

    #[test]
    fn all_addresses_are_reached_by_loopback() {
        assert_eq!(reachable("0.0.0.0:1".parse().unwrap()).to_string(), "127.0.0.1:1");
        assert_eq!(reachable("[::]:1".parse().unwrap()).to_string(), "[::1]:1");
        assert_eq!(reachable("10.0.0.1:1".parse().unwrap()).to_string(), "10.0.0.1:1");
    }
}
