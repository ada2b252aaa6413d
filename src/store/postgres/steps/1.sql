-- The tables, and the functions that write to them: each writing call of the store is one of them, and so one round
-- trip and one transaction. Rooms are numbers in every index; each question of the store has one index that answers it.
--
-- Some columns repeat another for the rows that a question is about and are null in all others: rooms.listed is rid
-- where the room is public, rooms.created where it has a creator, events.message_seq is seq where it is a message.
-- Only the index that is meant for the question gives its rows in their order then, whatever the planner believes.

-- Every append changes a row here and none of its indexed columns: with room in its page it is changed in place.
CREATE TABLE rooms (
    rid        bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         text     COLLATE "C" NOT NULL UNIQUE,
    head       bigint   NOT NULL,
    fence      bigint   NOT NULL,
    listed     bigint,
    created    bigint,
    created_by text     COLLATE "C"
) WITH (fillfactor = 50);
CREATE INDEX rooms_listed ON rooms (listed) WHERE listed IS NOT NULL;
CREATE INDEX rooms_created ON rooms (created_by, created) WHERE created IS NOT NULL;

CREATE TABLE events (
    room        bigint   NOT NULL,
    seq         bigint   NOT NULL,
    message_seq bigint,
    at          bigint   NOT NULL,
    event_id    uuid     NOT NULL,
    subject     uuid,
    kind        smallint NOT NULL,
    sender      text     COLLATE "C",
    public      bytea    NOT NULL,
    private     bytea    NOT NULL,
    PRIMARY KEY (room, seq)
);
CREATE INDEX events_messages ON events (room, message_seq) INCLUDE (sender) WHERE message_seq IS NOT NULL;
CREATE INDEX events_subject ON events (room, subject, seq) WHERE subject IS NOT NULL;

CREATE TABLE requests (
    room       bigint NOT NULL,
    first      bigint NOT NULL,
    last       bigint NOT NULL,
    body_hash  bigint NOT NULL,
    at         bigint NOT NULL,
    event_id   uuid   NOT NULL,
    sender     text   COLLATE "C" NOT NULL,
    request_id text   COLLATE "C" NOT NULL,
    PRIMARY KEY (room, sender, request_id)
);
CREATE INDEX requests_at ON requests (at);

CREATE TABLE members (
    member text   COLLATE "C" NOT NULL,
    room   bigint NOT NULL,
    PRIMARY KEY (member, room)
);

CREATE TABLE runs (
    room    bigint NOT NULL,
    message uuid   NOT NULL,
    PRIMARY KEY (room, message)
);

CREATE TABLE cursors (
    room   bigint NOT NULL,
    seq    bigint NOT NULL,
    member text   COLLATE "C" NOT NULL,
    PRIMARY KEY (room, member)
) WITH (fillfactor = 80);

CREATE TABLE snapshots (
    room    bigint PRIMARY KEY,
    seq     bigint NOT NULL,
    version bigint NOT NULL,
    state   bytea  NOT NULL
);

CREATE TABLE probe (
    filler bytea NOT NULL
);
-- Not compressed, or it would take no room.
ALTER TABLE probe ALTER filler SET STORAGE EXTERNAL;

CREATE TABLE accounts (
    begins     bigint NOT NULL,
    spent      bigint NOT NULL,
    reserved   bigint NOT NULL,
    keep_until bigint NOT NULL,
    key        text   COLLATE "C" NOT NULL,
    PRIMARY KEY (key, begins)
) WITH (fillfactor = 50);
CREATE INDEX accounts_kept ON accounts (keep_until);

CREATE TABLE reservations (
    id  uuid   PRIMARY KEY,
    run uuid   NOT NULL,
    at  bigint NOT NULL
);

CREATE TABLE reserved (
    reservation uuid    NOT NULL,
    line        integer NOT NULL,
    begins      bigint  NOT NULL,
    amount      bigint  NOT NULL,
    key         text    COLLATE "C" NOT NULL,
    PRIMARY KEY (reservation, line)
);

-- One call of append: the appends of one room, one after the other. The room's row is locked to the end, so that
-- another call to this room waits and then sees what this one has left.
--
-- fences to last_moves have one element for each append: the fence it needs or null; its idempotency key or nulls; how
-- many events it has; which of them, counted from 1, is the last that moves the fence, 0: none. owners to privates have
-- one for each event, owners being the number of its append. change_owners to publics_now have one for each change of
-- the directory, in the order of their appends: 0 the room itself, 1 joined, 2 left, 3 a run started, 4 a run ended.
--
-- Returns a row for each append: 0 appended, 1 a duplicate, 2 the request id reused, 3 the fence moved.
CREATE FUNCTION append(
    of_room text,
    fences bigint[], senders text[], request_ids text[], body_hashes bigint[], counts integer[], last_moves integer[],
    owners integer[], kinds smallint[], ats bigint[], event_ids uuid[], authors text[], subjects uuid[],
    publics bytea[], privates bytea[],
    change_owners integer[], changes smallint[], users text[], messages uuid[], publics_now boolean[]
) RETURNS TABLE (outcome smallint, first_seq bigint, last_seq bigint, first_id uuid, fence_seq bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    number    bigint;
    head_now  bigint;
    fence_now bigint;
    fresh     boolean;
    appended  boolean := false;
    earlier   requests%ROWTYPE;
    -- Events of the appends before this one, and the change of the directory that comes next.
    behind    integer := 0;
    change    integer := 1;
    -- For each append what makes a position of an event's place in the call; null: it was refused.
    starts    bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(counts)]);
BEGIN
    SELECT rid, head, fence INTO number, head_now, fence_now FROM rooms WHERE id = of_room FOR NO KEY UPDATE;
    FOR i IN 1 .. cardinality(counts) LOOP
        outcome := 3; first_seq := NULL; last_seq := NULL; first_id := NULL; fence_seq := 0;
        fresh := false;
        earlier := NULL;
        IF number IS NULL AND fences[i] = 0 THEN
            -- Who creates the same room at once is waited for here, and has been faster.
            INSERT INTO rooms (id, head, fence) VALUES (of_room, 0, 1)
                ON CONFLICT (id) DO NOTHING RETURNING rid, head, fence INTO number, head_now, fence_now;
            fresh := FOUND;
            IF NOT fresh THEN
                SELECT rid, head, fence INTO number, head_now, fence_now
                    FROM rooms WHERE id = of_room FOR NO KEY UPDATE;
            END IF;
        END IF;
        IF number IS NOT NULL AND request_ids[i] IS NOT NULL AND NOT fresh THEN
            SELECT * INTO earlier FROM requests
                WHERE room = number AND sender = senders[i] AND request_id = request_ids[i];
        END IF;
        IF number IS NULL THEN
            NULL;
        ELSIF earlier.room IS NOT NULL AND earlier.body_hash = body_hashes[i] THEN
            outcome := 1; first_seq := earlier.first; last_seq := earlier.last; first_id := earlier.event_id;
        ELSIF earlier.room IS NOT NULL THEN
            outcome := 2;
        ELSIF NOT fresh AND fences[i] IS NOT NULL AND fences[i] <> fence_now THEN
            fence_seq := fence_now;
        ELSE
            outcome := 0; first_seq := head_now + 1; last_seq := head_now + counts[i];
            first_id := event_ids[behind + 1];
            starts[i] := head_now - behind;
            IF last_moves[i] > 0 THEN
                fence_now := head_now + last_moves[i];
            END IF;
            head_now := last_seq;
            appended := true;
            IF request_ids[i] IS NOT NULL THEN
                INSERT INTO requests (room, sender, request_id, first, last, event_id, body_hash, at)
                    VALUES (number, senders[i], request_ids[i], first_seq, last_seq, first_id, body_hashes[i],
                            ats[behind + 1]);
            END IF;
            WHILE change_owners[change] < i LOOP
                change := change + 1;
            END LOOP;
            WHILE change_owners[change] = i LOOP
                CASE changes[change]
                    WHEN 0 THEN
                        UPDATE rooms SET listed = CASE WHEN publics_now[change] THEN rid END,
                            created = CASE WHEN coalesce(users[change], created_by) IS NOT NULL THEN rid END,
                            created_by = coalesce(users[change], created_by) WHERE rid = number;
                    WHEN 1 THEN
                        INSERT INTO members (member, room) VALUES (users[change], number) ON CONFLICT DO NOTHING;
                    WHEN 2 THEN
                        DELETE FROM members WHERE member = users[change] AND room = number;
                    WHEN 3 THEN
                        INSERT INTO runs (room, message) VALUES (number, messages[change]) ON CONFLICT DO NOTHING;
                    WHEN 4 THEN
                        DELETE FROM runs WHERE room = number AND message = messages[change];
                END CASE;
                change := change + 1;
            END LOOP;
        END IF;
        behind := behind + counts[i];
        RETURN NEXT;
    END LOOP;
    IF appended THEN
        INSERT INTO events (room, seq, message_seq, at, event_id, subject, kind, sender, public, private)
            SELECT number, starts[e.owner] + e.place, CASE WHEN e.kind = 1 THEN starts[e.owner] + e.place END, e.at,
                   e.event_id, e.subject, e.kind, e.author, e.public, e.private
            FROM unnest(owners, kinds, ats, event_ids, authors, subjects, publics, privates) WITH ORDINALITY
                 AS e (owner, kind, at, event_id, author, subject, public, private, place)
            WHERE starts[e.owner] IS NOT NULL;
        UPDATE rooms SET head = head_now, fence = fence_now WHERE rid = number;
    END IF;
END
$$;

-- Reserves every line or none: no row when it is done (or was), else the first line that does not fit, counted from 1,
-- with what its account held. Accounts are locked in the order of their keys, as settle does, so that nobody waits for
-- somebody who waits for them.
CREATE FUNCTION reserve(
    new_id uuid, new_run uuid, asked_at bigint,
    keys text[], begin_ats bigint[], amounts bigint[], limits bigint[], keeps bigint[]
) RETURNS TABLE (refused_line bigint, was_spent bigint, was_reserved bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- What a refusal has written is undone to the beginning of this block.
    BEGIN
        INSERT INTO reservations (id, run, at) VALUES (new_id, new_run, asked_at) ON CONFLICT (id) DO NOTHING;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        INSERT INTO accounts AS a (key, begins, spent, reserved, keep_until)
            SELECT l.key, l.begins, 0, 0, l.keep FROM unnest(keys, begin_ats, keeps) AS l (key, begins, keep)
            ORDER BY l.key COLLATE "C", l.begins
            ON CONFLICT (key, begins) DO UPDATE SET keep_until = greatest(a.keep_until, excluded.keep_until);
        SELECT l.place, a.spent, a.reserved INTO refused_line, was_spent, was_reserved
            FROM unnest(keys, begin_ats, amounts, limits) WITH ORDINALITY AS l (key, begins, amount, most, place)
            JOIN accounts a ON a.key = l.key AND a.begins = l.begins
            WHERE a.spent::numeric + a.reserved + l.amount > l.most ORDER BY l.place LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'a line does not fit' USING ERRCODE = 'SLREF';
        END IF;
        UPDATE accounts a SET reserved = a.reserved + l.amount
            FROM unnest(keys, begin_ats, amounts) AS l (key, begins, amount)
            WHERE a.key = l.key AND a.begins = l.begins;
        INSERT INTO reserved (reservation, line, key, begins, amount)
            SELECT new_id, l.place, l.key, l.begins, l.amount
            FROM unnest(keys, begin_ats, amounts) WITH ORDINALITY AS l (key, begins, amount, place);
    EXCEPTION WHEN SQLSTATE 'SLREF' THEN
        RETURN NEXT;
    END;
END
$$;

-- Ends a reservation, line by line with what was used or, without an amount, as reserved; whether it was open. An
-- account that was forgotten gets nothing more: its window is long over.
CREATE FUNCTION settle(done uuid, actuals bigint[]) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM reservations WHERE id = done;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM 1 FROM reserved h JOIN accounts a ON a.key = h.key AND a.begins = h.begins
        WHERE h.reservation = done ORDER BY a.key, a.begins FOR UPDATE OF a;
    UPDATE accounts a SET
            spent = least(a.spent::numeric + coalesce(actuals[h.line], h.amount), 9223372036854775807)::bigint,
            reserved = greatest(a.reserved - h.amount, 0)
        FROM reserved h WHERE h.reservation = done AND a.key = h.key AND a.begins = h.begins;
    DELETE FROM reserved WHERE reservation = done;
    RETURN true;
END
$$;
