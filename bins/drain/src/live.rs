//! `watch`: the live view for whoever debugs a pod by `kubectl exec`: who is connected, since when nothing went over
//! it, and for how long it has been quiet. Plain text, one look after the other; asks and never changes anything.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use podkit_cli::{Exit, Failure, VerbFlags, chain, units};
use podkit_lifecycle::{Deadline, Signals};

use crate::budget::show as time;
use crate::config::Config;
use crate::peers::Peers;
use crate::sidecar::each;
use crate::source::{InetDiag, ProcNet, Row, Rows, State, figures};

/// Between two looks.
const TURN: Duration = Duration::from_secs(1);
/// For one question to a proxy or the kernel.
const PATIENCE: Duration = Duration::from_secs(1);
/// More lines fill no screen.
const MOST: usize = 40;

/// Shows looks until Ctrl-C, or as the flags say.
///
/// # Errors
/// A flag that is no duration, nothing to look at, or standard output that takes no more.
pub(crate) fn show(config: &Config, flags: &VerbFlags) -> Result<Exit, Failure> {
    let length = flags.get("for").map(units::duration).transpose();
    let length = length.map_err(|what| Failure::of_flag("--for", what))?;
    let end = length.map(Deadline::after);
    let failed = |error: io::Error| Failure::new(Exit::Failed, chain(&error));
    let signals = Signals::install().map_err(failed)?;
    let mut view = View::new(config);
    loop {
        let text = view.look();
        match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
            // `podkit-drain watch | head`
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            written => written.map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot write to stdout: {}", chain(&error)))
            })?,
        }
        let next = Deadline::after(TURN);
        let is_last = flags.is_on("once") || end.is_some_and(|end| end < next);
        if is_last || signals.wait(next).map_err(failed)?.is_some() {
            return Ok(Exit::Done);
        }
    }
}

/// A connection: our port, and the peer.
type Connection = (u16, IpAddr, u16);

struct View<'a> {
    config: &'a Config,
    /// From best to worst.
    sources: Vec<Box<dyn Rows>>,
    started: Instant,
    known: Known,
    /// When something was active or new, the last time that it was.
    busy: Instant,
}

/// When each connection was first seen; `None` before the first look, which cannot tell new from old.
#[derive(Debug, Default)]
struct Known(Option<HashMap<Connection, Instant>>);

/// What one peer has open.
#[derive(Debug, Default, PartialEq, Eq)]
struct Peer {
    active: usize,
    idle: usize,
    over: usize,
    new: usize,
    /// The least and the most time without a byte.
    quiet: Option<(Duration, Duration)>,
    /// The longest that one was seen.
    oldest: Duration,
}

impl<'a> View<'a> {
    fn new(config: &'a Config) -> Self {
        let mut sources: Vec<Box<dyn Rows>> = Vec::new();
        if !config.ports.is_empty() {
            sources.push(Box::new(InetDiag::new(&config.ports, &config.peers, config.idle)));
            sources.push(Box::new(ProcNet::new("/proc/net", &config.ports, &config.peers)));
        }
        let now = Instant::now();
        Self { config, sources, started: now, known: Known::default(), busy: now }
    }

    /// One look as text.
    fn look(&mut self) -> String {
        let now = Instant::now();
        let mut table = String::new();
        let mut is_busy = self.proxies(&mut table);
        if self.sources.is_empty() {
            table.push_str("  no --port is given: no connections are shown\n");
        }
        let mut missed = Vec::new();
        let seen = self.sources.iter_mut().find_map(|source| match source.rows(Deadline::after(PATIENCE)) {
            Ok(rows) => Some((source.name(), rows)),
            Err(error) => {
                missed.push(chain(&error));
                None
            }
        });
        missed.iter().for_each(|why| put(&mut table, format_args!("  {why}")));
        if let Some((name, rows)) = seen {
            let peers = self.known.peers(&rows, now);
            is_busy |= peers
                .iter()
                .any(|((_, peer), of)| self.config.peers.count(*peer) && (of.active > 0 || of.new > 0));
            put(&mut table, format_args!("  {name}: {}", sum(&peers)));
            lines(&peers, &self.config.peers, &mut table);
        }
        self.busy = if is_busy { now } else { self.busy };
        let quiet = if is_busy { "busy".to_owned() } else { format!("quiet for {}", time(now - self.busy)) };
        format!("after {}: {quiet}\n{table}\n", time(now - self.started))
    }

    /// What the proxies say. True if one is busy.
    fn proxies(&self, table: &mut String) -> bool {
        let proxies = &self.config.proxies;
        let seen = each(proxies, |proxy| figures(proxy, Deadline::after(PATIENCE)));
        let mut is_busy = false;
        for (proxy, seen) in proxies.iter().zip(seen) {
            let said = match seen {
                Ok(sample) => {
                    is_busy |= sample.active > 0 || sample.since_new.is_some_and(|ago| ago < TURN);
                    let newest = sample.since_new.map_or_else(
                        || "none came yet".to_owned(),
                        |ago| format!("the last came {} ago", time(ago)),
                    );
                    format!("{} open, {} in flight, {newest}", sample.open, sample.active)
                }
                Err(error) => chain(&error),
            };
            put(table, format_args!("  {}: {said}", proxy.target));
        }
        is_busy
    }
}

impl Known {
    /// The connections by port and peer; those that are gone are forgotten. A row that the kernel tells twice counts once,
    /// as an active one if one of the two is.
    fn peers(&mut self, rows: &[Row], now: Instant) -> BTreeMap<(u16, IpAddr), Peer> {
        let mut seen: HashMap<Connection, &Row> = HashMap::with_capacity(rows.len());
        for row in rows {
            let kept = seen.entry((row.local_port, row.peer.0, row.peer.1)).or_insert(row);
            if row.state == State::Active {
                *kept = row;
            }
        }
        let mut peers: BTreeMap<_, Peer> = BTreeMap::new();
        let before = self.0.take();
        let known = self.0.insert(HashMap::with_capacity(seen.len()));
        for (connection, row) in seen {
            let first = before.as_ref().and_then(|before| before.get(&connection)).copied();
            let is_new = before.is_some() && first.is_none();
            let first = *known.entry(connection).or_insert(first.unwrap_or(now));
            peers.entry((row.local_port, row.peer.0)).or_default().add(row, is_new, now - first);
        }
        peers
    }
}

impl Peer {
    fn add(&mut self, row: &Row, is_new: bool, age: Duration) {
        match row.state {
            State::Active => self.active += 1,
            State::Idle => self.idle += 1,
            State::Over | State::Listening => self.over += 1,
        }
        self.new += usize::from(is_new);
        self.oldest = self.oldest.max(age);
        if let Some(quiet) = row.quiet {
            let (least, most) = self.quiet.unwrap_or((quiet, quiet));
            self.quiet = Some((least.min(quiet), most.max(quiet)));
        }
    }
}

fn sum(peers: &BTreeMap<(u16, IpAddr), Peer>) -> String {
    let all = |of: fn(&Peer) -> usize| peers.values().map(of).sum::<usize>();
    format!(
        "{} active, {} idle, {} ending, {} new",
        all(|peer| peer.active),
        all(|peer| peer.idle),
        all(|peer| peer.over),
        all(|peer| peer.new)
    )
}

/// One line a peer, the busiest first.
fn lines(peers: &BTreeMap<(u16, IpAddr), Peer>, counted: &Peers, table: &mut String) {
    if peers.is_empty() {
        return;
    }
    put(
        table,
        format_args!(
            "  {:>5}  {:<39} {:>6} {:>6} {:>6} {:>5}  {:<15} {}",
            "PORT", "PEER", "ACTIVE", "IDLE", "ENDING", "NEW", "LAST BYTE", "SEEN FOR"
        ),
    );
    let mut sorted: Vec<_> = peers.iter().collect();
    sorted.sort_by_key(|(_, peer)| std::cmp::Reverse((peer.active, peer.idle, peer.over)));
    for ((port, address), peer) in sorted.iter().take(MOST) {
        let quiet = match peer.quiet {
            None => "-".to_owned(),
            Some((least, most)) if time(least) == time(most) => time(least),
            Some((least, most)) => format!("{}..{}", time(least), time(most)),
        };
        let note = if counted.count(*address) { "" } else { "  (no client)" };
        put(
            table,
            format_args!(
                "  {port:>5}  {:<39} {:>6} {:>6} {:>6} {:>5}  {quiet:<15} {}{note}",
                address.to_string(),
                peer.active,
                peer.idle,
                peer.over,
                peer.new,
                time(peer.oldest),
            ),
        );
    }
    if let Some(more) = sorted.len().checked_sub(MOST).filter(|more| *more > 0) {
        put(table, format_args!("  and {more} more"));
    }
}

/// A line; a text has room for every one.
fn put(table: &mut String, line: std::fmt::Arguments<'_>) {
    let _ = table.write_fmt(line);
    table.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(peer: &str, port: u16, state: State, quiet: Option<u64>) -> Row {
        let quiet = quiet.map(Duration::from_millis);
        Row { local_port: 80, peer: (peer.parse().unwrap(), port), state, quiet }
    }

    #[test]
    fn a_row_that_comes_twice_counts_once_and_an_active_one_is_never_missed() {
        let of = |states: &[State]| {
            let rows: Vec<Row> = states.iter().map(|state| row("10.0.0.1", 1, *state, None)).collect();
            sum(&Known::default().peers(&rows, Instant::now()))
        };
        let (active, over) = ("1 active, 0 idle, 0 ending, 0 new", "0 active, 0 idle, 1 ending, 0 new");
        assert_eq!(of(&[State::Active, State::Active]), active);
        assert_eq!(of(&[State::Over, State::Active]), active);
        assert_eq!(of(&[State::Active, State::Over]), active);
        assert_eq!(of(&[State::Over, State::Over]), over);
    }

    #[test]
    fn a_connection_that_was_gone_is_new_when_it_comes_again() {
        let (mut known, start) = (Known::default(), Instant::now());
        let rows = [row("10.0.0.1", 1, State::Active, None)];
        let mut look = |rows: &[Row], after| {
            let peers = known.peers(rows, start + Duration::from_secs(after));
            peers.values().map(|peer| (peer.new, peer.oldest.as_secs())).next()
        };
        assert_eq!(look(&rows, 0), Some((0, 0)), "the first look cannot tell");
        assert_eq!(look(&rows, 3), Some((0, 3)));
        assert_eq!(look(&[], 4), None);
        assert_eq!(look(&rows, 5), Some((1, 0)));
        assert_eq!(look(&rows, 6), Some((0, 1)));
    }

    #[test]
    fn peers_are_shown_by_how_busy_they_are() {
        let mut peers: BTreeMap<(u16, IpAddr), Peer> = BTreeMap::new();
        for (row, is_new) in [
            (row("10.0.0.1", 1, State::Idle, Some(7_000)), false),
            (row("10.0.0.1", 2, State::Idle, Some(9_500)), true),
            (row("fd00::1", 3, State::Active, Some(20)), false),
            (row("127.0.0.1", 4, State::Over, None), false),
        ] {
            peers.entry((80, row.peer.0)).or_default().add(&row, is_new, Duration::from_secs(2));
        }
        assert_eq!(sum(&peers), "1 active, 2 idle, 1 ending, 1 new");
        let mut text = String::new();
        lines(&peers, &Peers::default(), &mut text);
        let squeezed: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            squeezed,
            [
                "PORT PEER ACTIVE IDLE ENDING NEW LAST BYTE SEEN FOR",
                "80 fd00::1 1 0 0 0 20ms 2.0s",
                "80 10.0.0.1 0 2 0 1 7.0s..9.5s 2.0s",
                "80 127.0.0.1 0 0 1 0 - 2.0s (no client)",
            ]
        );
    }

    #[test]
    fn a_long_list_is_cut() {
        let peers = (0..60_u8).map(|last| ((80, IpAddr::from([10, 0, 0, last])), Peer::default())).collect();
        let mut text = String::new();
        lines(&peers, &Peers::default(), &mut text);
        assert_eq!((text.lines().count(), text.lines().last()), (MOST + 2, Some("  and 20 more")));
    }
}
