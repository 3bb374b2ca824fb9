import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.utils.Exit;

/**
 * Kafka's command line tools in one process, for a Java that starts anew for each takes seconds.
 * A JSON object per line on standard input, {"tool": class, "arguments": [...], "input": text}, is
 * answered by one, {"code": exit code, "output": what it printed on both its streams}.
 */
public final class ToolBox {
    private static final List<Runnable> HOOKS = new ArrayList<>();
    private static ByteArrayOutputStream printed;
    private static Exited exited; // the first call of exit: some tools catch what it throws, and exit again
    private static String atExit; // what was printed until then

    private static final class Exited extends Error {
        private final int code;

        private Exited(int code) {
            super("exit " + code, null, false, false);
            this.code = code;
        }
    }

    public static void main(String[] ignored) throws Exception {
        ObjectMapper json = new ObjectMapper();
        PrintStream answers = System.out;
        BufferedReader calls = new BufferedReader(new InputStreamReader(System.in));
        Exit.setExitProcedure((code, message) -> exit(code));
        Exit.setHaltProcedure((code, message) -> exit(code));
        Exit.setShutdownHookAdder((name, hook) -> HOOKS.add(hook));
        for (String line = calls.readLine(); line != null; line = calls.readLine()) {
            JsonNode call = json.readTree(line);
            List<String> arguments = new ArrayList<>();
            call.get("arguments").forEach(argument -> arguments.add(argument.asText()));
            System.setIn(new ByteArrayInputStream(call.get("input").asText().getBytes(StandardCharsets.UTF_8)));
            answers.println(json.writeValueAsString(run(call.get("tool").asText(), arguments.toArray(new String[0]))));
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static void exit(int code) {
        if (exited == null) {
            exited = new Exited(code);
            atExit = printed.toString(StandardCharsets.UTF_8);
        }
        throw exited;
    }

    private static Map<String, Object> run(String tool, String[] arguments) {
        printed = new ByteArrayOutputStream();
        exited = null;
        atExit = "";
        HOOKS.clear();
        PrintStream both = new PrintStream(printed, true, StandardCharsets.UTF_8);
        System.setOut(both);
        System.setErr(both);
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (Throwable thrown) {
            if (exited == null) { // else it is what exit threw, out of main or what main made of it
                thrown.printStackTrace(both);
                exited = new Exited(-1);
                atExit = printed.toString(StandardCharsets.UTF_8);
            }
        }
        int before = exited == null ? 0 : printed.size();
        List.copyOf(HOOKS).forEach(Runnable::run);
        String output = printed.toString(StandardCharsets.UTF_8);
        return Map.of(
            "code", exited == null ? 0 : exited.code,
            "output", exited == null ? output : atExit + output.substring(Math.min(before, output.length())));
    }
}
