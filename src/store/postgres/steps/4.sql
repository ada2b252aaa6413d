-- Memberships, counted in the row of their room, which an append changes anyway, and locks.

ALTER TABLE rooms ADD COLUMN members bigint NOT NULL DEFAULT 0;
-- What was there before is counted: nobody appends as long as the table is locked for its new column. What an older
-- server has waiting for that lock is appended by the function it began with: who becomes a member by it is not counted.
UPDATE rooms SET members = counted.members
    FROM (SELECT room, count(*) AS members FROM members GROUP BY room) AS counted WHERE rid = counted.room;

-- As the function of step 3, which it takes the place of: it means the same, and counts the members.
CREATE OR REPLACE FUNCTION append(
    of_room text,
    fences bigint[], senders text[], request_ids text[], body_hashes bigint[], counts integer[], last_moves integer[],
    owners integer[], kinds smallint[], ats bigint[], event_ids uuid[], authors text[], subjects uuid[],
    publics bytea[], privates bytea[],
    change_owners integer[], changes smallint[], users text[], messages uuid[], publics_now boolean[],
    nodes uuid[]
) RETURNS TABLE (outcome smallint, first_seq bigint, last_seq bigint, first_id uuid, fence_seq bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    number    bigint;
    head_now  bigint;
    fence_now bigint;
    fresh     boolean;
    appended  boolean := false;
    -- Who has become a member, less who is none any more.
    more      integer := 0;
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
                        more := more + FOUND::integer;
                    WHEN 2 THEN
                        DELETE FROM members WHERE member = users[change] AND room = number;
                        more := more - FOUND::integer;
                    WHEN 3 THEN
                        INSERT INTO runs (room, message, node) VALUES (number, messages[change], nodes[i])
                            ON CONFLICT (room, message) DO UPDATE SET node = excluded.node;
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
        UPDATE rooms SET head = head_now, fence = fence_now, bytes = bytes + (
                SELECT coalesce(sum(octet_length(e.public) + octet_length(e.private)), 0)
                FROM unnest(owners, publics, privates) AS e (owner, public, private) WHERE starts[e.owner] IS NOT NULL),
                members = greatest(members + more, 0)
            WHERE rid = number;
    END IF;
END
$$;
