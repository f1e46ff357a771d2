#!/bin/sh
# The first process of a lab's host, whose disk is the folder $1: waits for the word to begin, lays the mounts, says so,
# and collects orphans. Where whoever starts it dies before the word is given, it ends.
set -eu
read -r word
[ "$word" = begin ]
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/netns /run/host
mount --bind "$1" /run/host
for tree in etc var; do
    mount -t overlay -o "lowerdir=/$tree,upperdir=/run/host/$tree,workdir=/run/host/overlay/$tree" overlay "/$tree"
done
for pair in docker:lib/docker barque:lib/barque log:log/barque; do
    mkdir -p "/var/${pair#*:}"
    mount --bind "/run/host/${pair%%:*}" "/var/${pair#*:}"
done
# Docker's configuration is the machine's; the rest is what a fresh machine would have.
rm -rf /etc/docker/daemon.json /etc/resolv.conf
mkdir -p /etc/docker /etc/barque
cp /run/host/hosts /etc/hosts
cp /run/host/resolv.conf /etc/resolv.conf
cp /run/host/hostname /etc/hostname
cat /run/host/hostname >/proc/sys/kernel/hostname
cp /run/host/machine-id /etc/machine-id
mount --bind /run/host/boot-id /proc/sys/kernel/random/boot_id
echo 0 >/proc/sys/net/ipv4/ip_forward
ip link set lo up
echo ready
exec </dev/null >/dev/null 2>&1
trap 'exit 0' TERM
while :; do sleep 3600 & wait $!; done
