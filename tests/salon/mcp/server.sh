# A server of tools over standard input and output that does what the name of the called tool says. Salon's requests
# have their id before everything else, one a line.

reply() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
text() { reply "{\"content\":[{\"type\":\"text\",\"text\":\"$1\"}]}"; }
tool() { printf '{"name":"%s","inputSchema":{"type":"object"}}' "$1"; }

echo "it begins" >&2
[ -z "$STARTED" ] || echo $$ >>"$STARTED"
while IFS= read -r line; do
  id=${line#*\"id\":}
  id=${id%%[,\}]*}
  case $line in
    *'"method":"initialize"'*)
      reply '{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}'
      ;;
    *'"method":"ping"'*) reply '{}' ;;
    *'"method":"tools/list"'*)
      reply "{\"tools\":[$(tool die),$(tool env),$(tool flood),$(tool grandchild),$(tool noise),$(tool pid)]}"
      ;;
    *'"method":"tools/call"'*)
      case $line in
        *'"name":"die"'*) exit 3 ;;
        *'"name":"env"'*) text "$(env | sort | tr '\n' ' ')" ;;
        *'"name":"flood"'*)
          i=0
          while [ $i -lt 3000 ]; do
            case $FLOOD in
              requests) echo '{"jsonrpc":"2.0","id":'$i',"method":"roots/list"}' ;;
              changes) echo '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}' ;;
              *) echo '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}' ;;
            esac
            i=$((i + 1))
          done
          text 'after the flood'
          ;;
        *'"name":"grandchild"'*)
          sleep 1000 >/dev/null 2>&1 &
          text $!
          ;;
        *'"name":"noise"'*)
          echo 'Listening on nothing at all'
          echo '{"jsonrpc":"2.0","id":"not asked for","result":{}}'
          echo '{"jsonrpc":"2.0"}'
          echo '[1, 2'
          printf '\377\376\n\n'
          i=0
          while [ $i -lt 2000 ]; do echo "line $i $TOKEN" >&2; i=$((i + 1)); done
          text 'after the noise'
          ;;
        *'"name":"pid"'*) text $$ ;;
      esac
      ;;
  esac
done
