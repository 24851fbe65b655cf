#!/bin/bash
# Starts PostgreSQL as the public image's entrypoint does: as root it hands over to `postgres`, as any other user it
# goes on as that user; an empty $PGDATA is initialised from POSTGRES_* and /docker-entrypoint-initdb.d first.
set -euo pipefail

# $NAME, or the content of the file that $NAME_FILE names, or the default.
from_environment() {
    local name=$1 default=${2:-} file_name="$1_FILE"
    if [ -n "${!name:-}" ] && [ -n "${!file_name:-}" ]; then
        echo >&2 "error: both $name and $file_name are set (but are exclusive)"
        exit 1
    fi
    if [ -n "${!name:-}" ]; then
        printf '%s' "${!name}"
    elif [ -n "${!file_name:-}" ]; then
        cat "${!file_name}"
    else
        printf '%s' "$default"
    fi
}

read_environment() {
    POSTGRES_PASSWORD=$(from_environment POSTGRES_PASSWORD)
    POSTGRES_USER=$(from_environment POSTGRES_USER postgres)
    POSTGRES_DB=$(from_environment POSTGRES_DB "$POSTGRES_USER")
    POSTGRES_INITDB_ARGS=$(from_environment POSTGRES_INITDB_ARGS)
    POSTGRES_HOST_AUTH_METHOD=${POSTGRES_HOST_AUTH_METHOD:-}
    export POSTGRES_PASSWORD POSTGRES_USER POSTGRES_DB POSTGRES_INITDB_ARGS POSTGRES_HOST_AUTH_METHOD
    unset POSTGRES_PASSWORD_FILE POSTGRES_USER_FILE POSTGRES_DB_FILE POSTGRES_INITDB_ARGS_FILE
}

create_folders() {
    mkdir -p "$PGDATA"
    chmod 00700 "$PGDATA" || :
    mkdir -p /var/run/postgresql || :
    chmod 03775 /var/run/postgresql || :
    if [ "$(id -u)" = 0 ]; then
        find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
        find /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
    fi
}

require_password() {
    if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
        echo >&2 'Error: Database is uninitialized and superuser password is not specified.
       You must specify POSTGRES_PASSWORD to a non-empty value for the superuser.'
        exit 1
    fi
}

# initdb asks who it is; a user that /etc/passwd does not know is lent a name.
lend_a_name() {
    getent passwd "$(id -u)" >/dev/null && return
    local library
    for library in /usr/lib/*/libnss_wrapper.so; do
        NSS_WRAPPER_PASSWD=$(mktemp) NSS_WRAPPER_GROUP=$(mktemp) LD_PRELOAD=$library
        export NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP LD_PRELOAD
        echo "postgres:x:$(id -u):$(id -g):PostgreSQL:$PGDATA:/bin/false" >"$NSS_WRAPPER_PASSWD"
        echo "postgres:x:$(id -g):" >"$NSS_WRAPPER_GROUP"
    done
}

initialise() {
    lend_a_name
    eval "initdb --username=\"\$POSTGRES_USER\" --pwfile=<(printf '%s\n' \"\$POSTGRES_PASSWORD\") $POSTGRES_INITDB_ARGS"
    if [ -n "${LD_PRELOAD:-}" ]; then
        rm -f "$NSS_WRAPPER_PASSWD" "$NSS_WRAPPER_GROUP"
        unset LD_PRELOAD NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
    fi
    local method=$POSTGRES_HOST_AUTH_METHOD
    printf '\nhost all all all %s\n' "${method:-$(postgres -C password_encryption)}" >>"$PGDATA/pg_hba.conf"
}

ask() {
    PGHOST= PGHOSTADDR= psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --no-password "$@"
}

run_user_scripts() {
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case "$file" in
            *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
            *.sql) ask --dbname "$POSTGRES_DB" -f "$file" ;;
            *.sql.gz) gunzip -c "$file" | ask --dbname "$POSTGRES_DB" ;;
            *.sql.xz) xzcat "$file" | ask --dbname "$POSTGRES_DB" ;;
            *.sql.zst) zstd -dc "$file" | ask --dbname "$POSTGRES_DB" ;;
        esac
    done
}

# The server runs on its socket alone while it is set up, so that nobody meets half a database.
set_up() {
    shift
    export PGPASSWORD=${PGPASSWORD:-$POSTGRES_PASSWORD}
    pg_ctl -D "$PGDATA" -o "$(printf '%q ' "$@" -c listen_addresses= -p "${PGPORT:-5432}")" -w start
    if [ "$POSTGRES_DB" != postgres ]; then
        ask --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
    fi
    run_user_scripts
    pg_ctl -D "$PGDATA" -m fast -w stop
    unset PGPASSWORD
    echo
    echo 'PostgreSQL init process complete; ready for start up.'
    echo
}

[ "${1:-}" = "" ] || [ "${1:0:1}" != - ] || set -- postgres "$@"
if [ "${1:-}" = postgres ]; then
    read_environment
    create_folders
    if [ "$(id -u)" = 0 ]; then
        exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
    fi
    if [ -s "$PGDATA/PG_VERSION" ]; then
        echo
        echo 'PostgreSQL Database directory appears to contain a database; Skipping initialization'
        echo
    else
        require_password
        initialise
        set_up "$@"
    fi
fi
exec "$@"
