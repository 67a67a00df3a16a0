# What each memory region of a linker map holds, and how many bytes it is too small by.
# Reads network.h, then the map, then what `objdump -h` says of the sections. Exit status 1 if a region is too small.
function number(hex,    value, i) {
    sub(/^0x/, "", hex)
    for (i = 1; i <= length(hex); i++) value = 16 * value + index("0123456789abcdef", substr(hex, i, 1)) - 1
    return value
}

# Sections are in the region that begins last before them: one that overflows still begins in its own.
function add(section, start, size,    region, found) {
    for (region in origin) if (origin[region] <= start && (found == "" || origin[region] > origin[found])) found = region
    if (found == "" || !size) return
    if (start + size - origin[found] > used[found]) used[found] = start + size - origin[found]
    parts[found] = parts[found] (parts[found] ? ", " : "") section " " size
    if (section == ".bss") parts[found] = parts[found] " (arena " arena ")"
}

$2 == "NETWORK_ARENA_BYTES" { arena = $3 }
/^Memory Configuration/ { regions = 1 }
/^Linker script and memory map/ { regions = 0 }
regions && $2 ~ /^0x/ && $1 != "*default*" { names[++count] = $1; origin[$1] = number($2); size_of[$1] = number($3) }
$1 ~ /^[0-9]+$/ && NF == 7 { section = $2; size = number($3); address = number($4); loaded = number($5) }
/ALLOC/ {
    add(section, address, size)
    if (/LOAD/ && loaded != address) add(section, loaded, size)
}

END {
    for (i = 1; i <= count; i++) {
        region = names[i]
        if (!used[region]) continue
        missing = used[region] - size_of[region]
        if (missing > 0) { printf "error: %s is too small by %d bytes: ", region, missing; failed = 1 }
        else printf "%s fits: ", region
        printf "%d of %d bytes, %s\n", used[region], size_of[region], parts[region]
    }
    exit failed
}
