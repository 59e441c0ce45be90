//! rsyslog beside ours, with its own file input and its own Elasticsearch output, as Debian packs them.

use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Result;
use crate::measure::{self, Cost};
use crate::sink::Sink;

/// Below the root of the file system, or of an unpacked tree that this variable names, with what it needs in
/// `LD_LIBRARY_PATH`.
const ROOT: &str = "VERSUS_RSYSLOG_ROOT";
const PROGRAM: &str = "usr/sbin/rsyslogd";
const OUTPUT: &str = "omelasticsearch.so";

/// Ships a file and stops rsyslogd when all has arrived.
pub(crate) fn rsyslog(work: &Path, file: &Path, sink: &Sink, lines: usize) -> Result<Cost> {
    let root = PathBuf::from(std::env::var_os(ROOT).unwrap_or_else(|| "/".into()));
    let program = root.join(PROGRAM).display().to_string();
    let (Some(modules), true) = (modules(&root), Path::new(&program).exists()) else {
        return Err("not installed; `apt-get install rsyslog rsyslog-elasticsearch` adds it".into());
    };
    let (host, port) =
        sink.address().split_once(':').map(|(h, p)| (h.to_owned(), p.to_owned())).ok_or("address")?;
    let config = format!(
        r#"global(workDirectory="{work}" maxMessageSize="64k")
module(load="imfile" mode="inotify")
module(load="omelasticsearch")
template(name="record" type="list" option.jsonf="on") {{
    property(outname="timestamp" name="timereported" dateFormat="rfc3339" format="jsonf")
    property(outname="message" name="msg" format="jsonf")
    constant(outname="file" value="/var/log/app/app.log" format="jsonf")
    constant(outname="service" value="shop" format="jsonf")
    constant(outname="pod" value="web-7d4b9c-x2x1z" format="jsonf")
    constant(outname="namespace" value="prod" format="jsonf")
}}
template(name="index" type="string" string="logs")
template(name="id" type="string" string="%$!metadata!filename%-%$!metadata!fileoffset%")
ruleset(name="ship" queue.type="FixedArray" queue.size="50000" queue.dequeueBatchSize="5000") {{
    action(type="omelasticsearch" server="{host}" serverport="{port}" template="record" searchIndex="index"
           dynSearchIndex="on" searchType="" bulkmode="on" maxbytes="1m" bulkid="id" dynbulkid="on"
           writeoperation="create" action.resumeRetryCount="-1")
}}
input(type="imfile" file="{file}" tag="app" ruleset="ship" addMetadata="on")
"#,
        work = work.display(),
        file = file.display(),
    );
    let path = work.join("rsyslog.conf");
    std::fs::write(&path, config)?;
    let (path, pid) = (path.display().to_string(), work.join("rsyslogd.pid").display().to_string());
    let running = measure::start(&[&program, "-n", "-C", "-M", &modules, "-f", &path, "-i", &pid])?;
    let all = sink.wait_for(lines);
    kill(Pid::from_raw(running.id), Signal::SIGTERM)?;
    let cost = running.finish(&program)?;
    if all { Ok(cost) } else { Err(format!("rsyslogd sent {} of {lines} lines", sink.lines()).into()) }
}

/// Where the modules are: `/usr/lib/rsyslog`, or one level down by architecture.
fn modules(root: &Path) -> Option<String> {
    let lib = root.join("usr/lib");
    let below = std::fs::read_dir(&lib).ok()?.flatten().map(|entry| entry.path());
    let mut candidates = std::iter::once(lib).chain(below).map(|dir| dir.join("rsyslog"));
    let found = candidates.find(|dir| dir.join(OUTPUT).exists())?;
    Some(found.display().to_string())
}
