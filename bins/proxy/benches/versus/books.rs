//! What a process and its children have used, by the kernel's own books.

use std::fs;
use std::path::PathBuf;

use crate::Result;

/// CPU nanoseconds of all threads of a process and of its children, user and system.
pub(crate) fn cpu(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in family(pid).into_iter().flat_map(tasks) {
        // Nanoseconds on a CPU, nanoseconds waiting for one, turns (Documentation/scheduler/sched-stats.rst).
        let text = fs::read_to_string(task.join("schedstat"))?;
        let on_cpu = text.split(' ').next().and_then(|first| first.parse::<u64>().ok());
        sum += on_cpu.ok_or("this kernel keeps no schedstat")?;
    }
    if sum == 0 { Err(format!("process {pid} has ended").into()) } else { Ok(sum) }
}

/// Resident bytes of a process and its children.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for pid in family(pid) {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        sum += line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024;
    }
    Ok(sum)
}

/// A process and its children, and theirs.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(pid) = family.get(at).copied() {
        for task in tasks(pid) {
            let text = fs::read_to_string(task.join("children")).unwrap_or_default();
            family.extend(text.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        }
        at += 1;
    }
    family
}

fn tasks(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}
